"""The page of `flash-vstream-ros web` in headless Chromium, with a node whose every text is hostile markup."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from robot import new_namespace

pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'flash_vstream_ros[web]'")
pytest.importorskip("starlette", reason="starlette is not installed: pip install 'flash_vstream_ros[web]'")

from web_server import ENTRIES, HOSTILE, Served, hostile_node, served

from flash_vstream_ros.instruments.browser import Browser, Page, browser, browser_program

PROGRAM = browser_program()
pytestmark = [
    pytest.mark.slow,  # starts a browser
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium is on PATH: apt-get install chromium"),
]
TOKEN = "a-token-of-20-letters"
FOREIGN = "evil.example"  # a name that resolves to this machine, as after DNS rebinding


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    assert PROGRAM
    with browser(PROGRAM, (f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1",)) as running:
        yield running


@pytest.fixture(scope="module")
def space() -> Iterator[str]:
    namespace = new_namespace()
    with hostile_node(namespace):
        yield namespace


@pytest.fixture(scope="module")
def web(space: str) -> Iterator[Served]:
    with served(space) as running:
        yield running


@pytest.fixture(scope="module")
def page(chromium: Browser, web: Served) -> Page:
    """The page, once it shows the memory."""
    opened = chromium.new_page()
    opened.show(1280, 860)
    opened.open(f"http://127.0.0.1:{web.port}/")
    opened.wait_for("document.querySelectorAll('#strip img[src]').length > 5")
    opened.wait_for("document.querySelectorAll('.picture img[src]').length == 2")
    return opened


def submit(page: Page, text: str, kind: str = "ask") -> None:
    """Send the form, and wait for the end of the answer."""
    page.evaluate(f"document.getElementById('question').value = {text!r}")
    page.evaluate(f"document.querySelector('button[value={kind}]').click()")
    page.wait_for("document.querySelector('.turn') && !document.querySelector('.turn.running')")


def texts(page: Page, selector: str) -> list[str]:
    return list(page.evaluate(f"[...document.querySelectorAll({selector!r})].map((each) => each.textContent)"))


def assert_unharmed(page: Page) -> None:
    """No text became markup."""
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.scripts.length") == 1
    assert page.evaluate("document.querySelectorAll('[onerror], img[src=x]').length") == 0
    assert page.problems == []


def test_names_of_cameras_and_errors_are_shown_as_text(page: Page) -> None:
    assert texts(page, ".lane-name") == [f"{HOSTILE}0", f"{HOSTILE}1"]
    assert texts(page, ".picture b") == [f"{HOSTILE}0", f"{HOSTILE}1"]
    assert texts(page, "#camera option")[1:] == [f"{HOSTILE}0", f"{HOSTILE}1"]
    assert texts(page, "#model") == texts(page, "#last-error") == texts(page, "#drops code") == [HOSTILE]
    assert_unharmed(page)


def test_an_answer_is_shown_as_text_and_its_evidence_lights_up(page: Page) -> None:
    assert page.evaluate("document.querySelectorAll('.entry.evidence, .cell.evidence').length") == 0
    submit(page, HOSTILE)
    assert texts(page, ".turn .question")[0] == HOSTILE
    assert texts(page, ".turn .answer")[0] == f"You asked {HOSTILE}"
    assert "75 % sure" in texts(page, ".turn .meta")[0]
    page.wait_for("document.querySelectorAll('.entry.evidence').length == 3")
    page.wait_for("document.querySelectorAll('.cell.evidence').length > 0")
    assert page.evaluate("document.querySelectorAll('.entry').length") == ENTRIES, "evidence replaces its entries"
    page.wait_for("[...document.querySelectorAll('.evidence-row img')].every((image) => image.naturalWidth > 0)")
    submit(page, HOSTILE, "search")
    assert "best moments first" in texts(page, ".turn .meta")[0]
    submit(page, "fail")
    assert HOSTILE in texts(page, ".turn .error-text")[0]
    page.wait_for("document.querySelectorAll('.entry.evidence').length == 0")
    assert_unharmed(page)


def test_watches_and_events_are_shown_as_text(page: Page) -> None:
    page.wait_for("document.querySelectorAll('.watch.active').length == 1 && document.querySelector('.event.began')")
    assert texts(page, ".watch-text") == texts(page, ".watch-problem") == [HOSTILE]
    assert texts(page, ".watch-share") == ["90 %"]
    assert texts(page, ".event-text")[0] == HOSTILE
    assert texts(page, ".event-why")[0] == f"90 %, {HOSTILE}"
    assert_unharmed(page)


def test_pointing_at_an_image_shows_its_entry(page: Page) -> None:
    page.evaluate("document.querySelector('.cell:not(:disabled)').focus()")
    page.wait_for("!document.getElementById('detail').hidden")
    assert texts(page, "#detail b")[0].startswith(HOSTILE)
    assert HOSTILE in texts(page, "#detail")[0].replace(texts(page, "#detail b")[0], ""), "the map of its pose"
    assert_unharmed(page)


def test_dragging_over_the_time_line_limits_the_next_question(page: Page) -> None:
    left, top, width = page.evaluate(
        "(() => { const box = document.querySelector('.timeline').getBoundingClientRect();"
        " return [box.left, box.top + 20, box.width]; })()"
    )
    for kind, x in (("mousePressed", 0.25), ("mouseMoved", 0.5), ("mouseReleased", 0.5)):
        place = {"x": left + x * width, "y": top}
        page.call("Input.dispatchMouseEvent", type=kind, **place, button="left", buttons=1, clickCount=1)
    page.wait_for("document.getElementById('since').value && document.getElementById('until').value")
    since, until = (float(page.evaluate(f"document.getElementById({name!r}).value")) for name in ("since", "until"))
    assert 1000 < since < until < 1620
    page.evaluate("document.getElementById('clear-limits').click()")
    assert page.evaluate("document.getElementById('since').value") == ""


@pytest.mark.parametrize(("width", "height", "phone"), [(390, 844, True), (320, 568, True), (1280, 860, False)])
def test_the_page_fits_the_window_in_light_and_dark(page: Page, width: int, height: int, phone: bool) -> None:
    grounds = []
    for dark in (False, True):
        page.show(width, height, dark=dark, phone=phone)
        page.wait_for(f"window.innerWidth == {width} && document.querySelector('.timeline').clientWidth <= {width}")
        page.wait_for(f"document.documentElement.scrollWidth <= {width}")
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]


def test_the_page_asks_for_the_token(chromium: Browser, space: str) -> None:
    with served(space, TOKEN) as guarded:
        page = chromium.new_page()
        page.open(f"http://127.0.0.1:{guarded.port}/")
        for word, refused in (("x" * 20, False), (TOKEN, True)):
            page.wait_for("document.getElementById('login')?.open")
            assert page.evaluate("!document.getElementById('login-error').hidden") is refused
            page.evaluate(f"document.getElementById('token').value = {word!r}")
            page.evaluate("document.querySelector('#login button').click()")
            page.wait_for(f"document.getElementById('login').open == {str(not refused).lower()}")
        page.wait_for("document.querySelectorAll('#strip img[src]').length > 5")
        page.evaluate("window.close()")


def test_a_page_under_a_foreign_name_gets_nothing(chromium: Browser, web: Served) -> None:
    page = chromium.new_page()
    page.open(f"http://{FOREIGN}:{web.port}/")
    page.wait_for("document.body?.textContent.includes('another host name')")
    fetched = f"fetch('http://127.0.0.1:{web.port}/api/events').then(() => 'read', () => 'refused')"
    assert page.evaluate(fetched) == "refused"
