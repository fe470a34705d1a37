"""The demo as a newcomer runs it: three processes over DDS."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import wait_until
from robot import START_S

from flash_vstream_ros.cli.demo_questions import caption
from flash_vstream_ros.cli.live_view.board import Board
from flash_vstream_ros.engine.contact_sheet import KEY_FRAME, SIDE, SYNOPSIS, Thumbnail, contact_sheet
from flash_vstream_ros.models.names import HOUSEHOLD
from flash_vstream_ros.process import INTERRUPTED

pytestmark = pytest.mark.slow  # starts nodes in processes of their own


def jpeg(colour: tuple[int, int, int], width: int = 80, height: int = 80) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), colour, np.uint8))[1].tobytes()


def test_a_caption_has_kind_time_and_weight() -> None:
    assert caption("synopsis", 204.6, 3.0) == "synopsis 3:25 w 3"
    assert caption("key frame", 59.7, 12.5) == "key frame 1:00 w 12.5"


def test_the_contact_sheet_shows_thumbnails_in_the_given_order() -> None:
    red = Thumbnail("first", KEY_FRAME, jpeg((0, 0, 255)))
    blue = Thumbnail("second", SYNOPSIS, jpeg((255, 0, 0), height=40))
    sheet = contact_sheet([blue, red, Thumbnail("third", SYNOPSIS, b"no image")])
    left, middle, right = (sheet[SIDE // 2, column * SIDE + SIDE // 2].tolist() for column in range(3))
    assert left[0] > 240 > 20 > left[2]
    assert middle[2] > 240 > 20 > middle[0]
    assert len(set(right)) == 1, "what cannot be decoded is grey"
    assert contact_sheet([red] * 11).shape[0] > sheet.shape[0] == contact_sheet([]).shape[0]


def test_the_demo_asks_over_the_wire_and_writes_what_it_prints(tmp_path: Path) -> None:
    file, sheet = tmp_path / "demo.json", tmp_path / "sheet.png"
    command = [sys.executable, "-m", "flash_vstream_ros.cli", "demo", "--json", str(file), "--sheet", str(sheet)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert len(report["questions"]) == len({asked["question"] for asked in report["questions"]}) == 10
    assert len({asked["kind"] for asked in report["questions"]}) >= 8
    for asked in report["questions"]:
        assert asked["answer"].startswith("[demo model] ")
        assert asked["time_to_first_token"] > 0
        assert {"question", "truth", "right"} <= set(asked)
        assert asked["question"].split()[0] in done.stdout
    assert sum(asked["right"] for asked in report["questions"]) >= 5
    frames, memory = report["frames"], report["memory"]
    assert frames["received"] == frames["encoded"] + frames["static"] + frames["not_sampled"] + frames["dropped"]
    assert frames["received"] >= 400
    assert 0 < memory["entries"] <= memory["capacity"]
    assert memory["tokens"] > 0 < memory["bytes"]
    image = cv2.imread(str(sheet))
    assert image is not None
    assert image.shape[0] > 3 * SIDE


def test_the_demo_serves_its_node_on_a_web_page_until_ctrl_c(start: Any, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'flash_vstream_ros[web]'")
    pytest.importorskip("starlette", reason="starlette is not installed: pip install 'flash_vstream_ros[web]'")
    from web_server import Served

    script = """
        import sys
        from flash_vstream_ros.cli import main
        sys.exit(main())
    """
    words = ["demo", "--web", "0", "--sheet", str(tmp_path / "sheet.png")]
    demo = start(script, *words, DISPLAY="", WAYLAND_DISPLAY="")  # no browser
    assert wait_until(lambda: "serving http" in demo.stderr, START_S), demo.stderr
    web = Served(int(demo.stderr.partition("127.0.0.1:")[2].split()[0]), Board())
    assert b"page.js" in web.get("/").body  # type: ignore[attr-defined]
    with web.events() as events:
        status = next((event for event in events if event.get("state") == "READY"), None)
        assert status, f"the page ended before the node was ready: {demo.lines} {demo.stderr}"
        assert (status["model"], status["cameras"]) == (HOUSEHOLD, ["camera"])
        demo.send(signal.SIGINT)
        assert demo.wait(START_S) == INTERRUPTED, demo.stderr
    assert "Traceback" not in demo.stderr + "\n".join(demo.lines)
    with pytest.raises(ConnectionRefusedError):
        web.get("/")
