"""The server of `flash-vstream-ros web`: what it shows of a node, whom it refuses, and what slow clients cost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT, wait_until
from robot import START_S, Robot, new_namespace

pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'flash_vstream_ros[web]'")
pytest.importorskip("starlette", reason="starlette is not installed: pip install 'flash_vstream_ros[web]'")

from web_server import HOSTILE, Served, first, hostile_node, served

from flash_vstream_ros.cli import main
from flash_vstream_ros.cli.agents.bounds import MAX_THUMBNAIL_BYTES
from flash_vstream_ros.cli.http_server import STUCK_MS, listen
from flash_vstream_ros.cli.live_view.board import MAX_VIEWERS, Board
from flash_vstream_ros.cli.live_view.events import History
from flash_vstream_ros.engine.contact_sheet import CAPTION, COLUMNS, GAP, SIDE
from flash_vstream_ros.instruments.running_node import running_node
from flash_vstream_ros.node.vstream_node import VStreamNode
from flash_vstream_ros.ros.interfaces import AddWatch, CompressedImage, RemoveWatch, Watch

pytestmark = pytest.mark.slow  # starts a node

TOKEN = "a-token-of-20-letters"
SMALL = ["model.name:=tiny-random", "model.max_pixels:=12544", "summary.period_s:=0.0", "status.period_s:=0.05"]
SMALL += ["memory_view.period_s:=0.1"]


@pytest.fixture(scope="module")
def seeing() -> Iterator[tuple[Served, Robot]]:
    """A server of a node with two cameras that has seen a few frames."""
    namespace = new_namespace()
    given = [*SMALL, "cameras:=[front,rear]"]
    args = ["test", "--ros-args", "-r", f"__ns:={namespace}", *(word for each in given for word in ("-p", each))]
    topics = ("front/image", "rear/image")
    with running_node(VStreamNode, args), Robot(namespace, topics) as robot:
        robot.wait_until_ready()
        for topic in topics:
            robot.see([10.0 + second for second in range(6)], topic=topic)
        with served(namespace) as web:
            yield web, robot


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    """A server with a token."""
    namespace = new_namespace()
    with hostile_node(namespace), served(namespace, TOKEN, ["robot.local"]) as web:
        yield web


def test_a_client_gets_the_status_the_memory_and_the_newest_images(seeing: tuple[Served, Robot]) -> None:
    web, robot = seeing
    with web.events() as events:
        status = first(events, kind="status")
        assert (status["state"], status["cameras"], status["model"]) == ("READY", ["front", "rear"], "tiny-random")
        assert status["frames"]["received"] == robot.fresh_status().frames_received
        memory = first(events, kind="memory")
        assert len(memory["entries"]) == status["entries"] > 0
        assert {entry["camera"] for entry in memory["entries"]} == {"front", "rear"}
        assert all(entry["since"] <= entry["at"] <= entry["until"] for entry in memory["entries"])
        newest = first(events, kind="newest")["pictures"]
        assert [picture["camera"] for picture in newest] == ["front", "rear"]
        assert {picture["at"] for picture in newest} == {15.0}
        for image in {item["image"] for item in (*memory["entries"], *newest)}:
            jpeg = web.get(f"/api/images/{image}").body  # type: ignore[attr-defined]
            assert 0 < len(jpeg) <= MAX_THUMBNAIL_BYTES
            assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) is not None
    assert wait_until(lambda: not web.board.images), "images are kept although nobody watches"
    assert web.status(f"/api/images/{image}") == 404


def test_an_answer_streams_and_has_its_evidence(seeing: tuple[Served, Robot]) -> None:
    web, _ = seeing
    *pieces, reply = web.post("/api/ask", {"text": "What is there?", "cameras": ["front"], "since": "-3"})
    streamed = "".join(piece["text"] for piece in pieces)
    assert streamed
    assert reply["answer"].startswith(streamed), "the last pieces may arrive after the reply"
    assert reply["evidence"]
    assert {entry["camera"] for entry in reply["evidence"]} == {"front"}
    assert all(entry["until"] >= 12.0 and entry["jpeg"] for entry in reply["evidence"])
    (found,) = web.post("/api/search", {"text": "a thing"})
    assert 0 < len(found["evidence"]) <= 8
    assert {"duration", "covered", "notes"} <= found.keys()


def test_a_client_gets_the_watches_and_their_events(seeing: tuple[Served, Robot]) -> None:
    web, robot = seeing
    always = Watch(watch_id="web", text="Is it there?", cameras=["rear"], on=1e-6, off=1e-6)
    with web.events() as events:
        robot.call(AddWatch, f"{robot._at}/add_watch", AddWatch.Request(watch=always), START_S)
        robot.see([16.0, 17.0], topic="rear/image")  # older frames raise no event
        began = next(event for event in events if event["kind"] == "watches" and event["events"])
        robot.call(RemoveWatch, f"{robot._at}/remove_watch", RemoveWatch.Request(watch_id="web"), START_S)
        ended = next(event for event in events if event["kind"] == "watches" and len(event["events"]) == 2)
    assert [(each["text"], each["cameras"]) for each in began["watches"]] == [("Is it there?", ["rear"])]
    assert [(each["began"], each["camera"], each["reason"]) for each in ended["events"]] == [
        (False, "", "removed"),
        (True, "rear", ""),
    ]


def test_a_subscriber_gets_a_sheet_of_the_memory(seeing: tuple[Served, Robot]) -> None:
    _, robot = seeing
    entries = robot.list_memory(START_S).entries
    sheets: list[Any] = []
    topic = f"{robot._at}/memory_view/compressed"
    subscription = robot.node.create_subscription(CompressedImage, topic, sheets.append, 1)
    robot.wait_for(lambda: bool(sheets), START_S)
    robot.node.destroy_subscription(subscription)
    image = cv2.imdecode(np.frombuffer(sheets[0].data, np.uint8), cv2.IMREAD_COLOR)
    rows = -(-len(entries) // COLUMNS)
    assert image.shape == (rows * (SIDE + CAPTION + GAP) + GAP, COLUMNS * (SIDE + GAP) + GAP, 3)
    newest = max(entry.until.sec for entry in entries)
    assert (sheets[0].header.stamp.sec, sheets[0].format) == (newest, "bgr8; jpeg compressed bgr8")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"text": "what?", "cameras": ["left"]}, "unknown camera left"),
        ({"text": "what?", "since": "14", "until": "11"}, "since is later than until"),
        ({"text": " "}, "the question is empty"),
        ({"text": "what?", "since": "soon"}, "no point in time"),
        ({"text": 3}, "must be strings"),
        ({"text": "what?", "more": ""}, "must be an object"),
        (["what?"], "must be an object"),
        (b"{", "no JSON"),
        (b"[" * 15_000, "no JSON"),
        ({"text": "x" * 20_000}, "more than 16384 bytes"),
        ({"text": "\ud800"}, "not valid UTF-8"),
    ],
)
def test_what_is_wrong_with_a_request_is_a_sentence(seeing: tuple[Served, Robot], body: Any, sentence: str) -> None:
    (reply,) = seeing[0].post("/api/ask", body)
    assert sentence in reply["error"]


def test_a_form_of_another_site_cannot_ask(seeing: tuple[Served, Robot]) -> None:
    assert seeing[0].status("/api/ask", {"Content-Type": "text/plain"}, b'{"text": "what?"}') == 415


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/", {"Sec-Fetch-Site": "cross-site"}, 200),  # a link to the page
        ("/", {"Host": "evil.example"}, 421),
        ("/", {"Host": "evil.example:PORT"}, 421),
        ("/", {"Host": "127.0.0.1"}, 421),
        ("/page.js", {"Origin": "http://evil.example"}, 403),
        ("/api/images/x", {}, 401),
        ("/api/images/x", {"Authorization": f"Bearer {TOKEN}x"}, 401),
        ("/api/images/x", {"Authorization": TOKEN}, 401),
        ("/api/events", {}, 401),
        ("/api/images/x", {"Authorization": f"Bearer {TOKEN}"}, 404),
        ("/api/images/x", {"Authorization": f"Bearer {TOKEN}", "Host": "robot.local:PORT"}, 404),
        ("/api/images/x", {"Authorization": f"Bearer {TOKEN}", "Origin": "http://localhost:PORT"}, 404),
        ("/api/ask", {"Authorization": f"Bearer {TOKEN}", "Host": "robot.local", "Origin": "https://robot.local"}, 405),
        ("/api/images/x", {"Authorization": f"Bearer {TOKEN}", "Origin": "http://127.0.0.1.evil.example:PORT"}, 403),
        ("/api/images/x", {"Authorization": f"Bearer {TOKEN}", "Origin": "null"}, 403),
        ("/api/images/x", {"Authorization": f"Bearer {TOKEN}", "Sec-Fetch-Site": "cross-site"}, 403),
        ("/api/images/x", {"Authorization": f"Bearer {TOKEN}", "Sec-Fetch-Site": "same-site"}, 403),
        ("/api/../page.js", {}, 401),
        ("/..%2fapp.py", {}, 404),
    ],
)
def test_who_is_refused(guarded: Served, path: str, headers: dict[str, str], status: int) -> None:
    given = {name: value.replace("PORT", str(guarded.port)) for name, value in headers.items()}
    assert guarded.status(path, given) == status


def test_every_response_has_the_headers_that_protect_the_page(guarded: Served) -> None:
    for path in ("/", "/page.js", "/nothing", "/api/events"):
        headers = guarded.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "require-trusted-types-for 'script'" in policy
        assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")


def test_the_page_loads_nothing_from_elsewhere_and_writes_no_markup() -> None:
    for file in files("flash_vstream_ros.cli.live_view").joinpath("page").iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, file.name
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, file.name


def test_texts_of_a_hostile_node_arrive_as_text() -> None:
    namespace = new_namespace()
    with hostile_node(namespace), served(namespace) as web:
        with web.events() as events:
            assert first(events, kind="status")["last_error"] == HOSTILE
            assert first(events, kind="memory")["entries"][0]["camera"] == f"{HOSTILE}0"
        assert HOSTILE in web.post("/api/ask", {"text": "fail"})[-1]["error"]


def test_a_stuck_client_misses_events_and_others_do_not(seeing: tuple[Served, Robot]) -> None:
    web, _ = seeing
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", web.port))
        stuck.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n\r\n".encode())
        assert wait_until(lambda: web.board.watched)
        (viewer,) = web.board._viewers
        with web.events() as events:
            for number in range(50):
                _in_loop(web, {"number": number, "text": "x" * 200_000})
                assert first(events, kind="large")["number"] == number
            assert set(viewer._waiting) <= {"node", "status", "history", "memory", "newest", "watches", "large", "beat"}
            assert json.loads(viewer._waiting["large"])["number"] == 49, "the stuck client waits for the newest only"


def _in_loop(web: Served, fields: dict[str, Any]) -> None:
    """Post an event of the kind `large`, on the server's thread."""
    loop = web.board.loop
    asyncio.run_coroutine_threadsafe(_post(web.board, fields), loop).result(START_S)


async def _post(board: Board, fields: dict[str, Any]) -> None:
    board.post("large", fields)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux disconnects clients that take no data")
def test_a_client_that_takes_no_data_is_disconnected() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == STUCK_MS


def test_only_so_many_pages_are_served() -> None:
    async def fill() -> bool:
        board = Board()
        viewers = [board.viewer() for _ in range(MAX_VIEWERS)]
        for viewer in viewers:
            viewer.__enter__()
        full = board.full
        viewers[0].__exit__(None, None, None)
        return full and not board.full

    assert asyncio.run(fill())


def test_a_viewer_gets_the_newest_event_of_each_kind() -> None:
    async def watch() -> tuple[bytes, bytes, bytes]:
        board = Board()
        board.post("a", {"number": 1})
        with board.viewer() as viewer:
            began = await viewer.lines()
            for number in (2, 3):
                board.post("a", {"number": number})
            later = await viewer.lines()
            board.close()
            return began, later, await viewer.lines()

    began, later, end = asyncio.run(watch())
    assert (json.loads(began)["number"], json.loads(later)["number"], end) == (1, 3, b"")


def test_rates_are_differences_of_counts_over_the_nodes_clock() -> None:
    history = History()

    def point(second: float, received: int) -> dict[str, Any]:
        frames = dict.fromkeys(("received", "encoded", "static", "not_sampled", "dropped"), received)
        return history.add({"time": second, "frames": frames, "latency": {"encode": [0.1, 0.2]}})

    assert point(0.0, 0)["rates"] == {}
    assert point(2.0, 10)["rates"]["received"] == 5.0
    assert point(100.0, 206)["rates"]["received"] == 2.0
    assert point(101.0, 3)["rates"] == {}, "another node, which has received less"
    assert point(1.0, 4)["rates"] == {}, "the clock jumped back"


def test_the_page_says_that_there_is_no_node() -> None:
    with served(new_namespace()) as web, web.events() as events:
        assert "flash-vstream-ros node" in first(events, kind="node")["problem"]


def test_a_server_that_others_can_reach_needs_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["web", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "--token-file is needed" in capsys.readouterr().err


def test_the_command_serves_the_page_until_ctrl_c(start: Any) -> None:
    script = """
        import sys
        from flash_vstream_ros.cli import main
        sys.argv[1:1] = ["web", "--port", "0"]
        sys.exit(main())
    """
    process = start(script, ROS_DOMAIN_ID=os.environ["ROS_DOMAIN_ID"])
    assert wait_until(lambda: "serving http" in process.stderr, START_S), process.stderr
    port = int(process.stderr.partition("127.0.0.1:")[2].split()[0])
    web = Served(port, Board())
    assert b"page.js" in web.get("/").body  # type: ignore[attr-defined]
    with web.events() as events:
        assert first(events, kind="node")
        process.send(signal.SIGINT)
        assert process.wait(START_S) == 130
    assert "Traceback" not in process.stderr


def test_the_files_of_the_page_are_installed() -> None:
    assert 'live_view": ["page/*"]' in (ROOT / "setup.py").read_text(encoding="utf-8")
