"""Commands that talk to a running node: relative times, empty results, and cancelled questions."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import PATIENCE
from robot import NodeProcess, Robot

from flash_vstream_ros import ros
from flash_vstream_ros.cli import main
from flash_vstream_ros.client import ask_client
from flash_vstream_ros.engine.contact_sheet import SIDE
from flash_vstream_ros.ros.interfaces import Search, interface

GetParameters = interface("rcl_interfaces/srv/GetParameters")

pytestmark = pytest.mark.slow  # starts nodes in processes of their own

NAMESPACE = "/cli"
NAMES = ("--node", f"{NAMESPACE}/flash_vstream")
LAST_S = 1120.0


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    """A node that has seen frames with stamps from 1000 s to LAST_S."""
    folder = tmp_path_factory.mktemp("node")
    with NodeProcess(folder, ["-p", "question.deadline_s:=40.0"], namespace=NAMESPACE), Robot(NAMESPACE) as robot:
        robot.wait_until_ready()
        robot.see([1000.0 + 2 * step for step in range(61)])
        yield robot


def memory(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status and what was printed."""
    status = main(["memory", *arguments, *NAMES])
    found = capsys.readouterr()
    return status, found.out, found.err


def entries_until(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[int]:
    status, out, errors = memory(capsys, "list", "--json", *arguments)
    assert status == 0, errors
    return [entry["until"]["sec"] for entry in json.loads(out)["entries"]]


def test_a_time_before_the_newest_frame_selects_the_newest_entries(
    robot: Robot, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = entries_until(capsys)
    recent = entries_until(capsys, "--since", "-20s")
    assert 0 < len(recent) < len(everything)
    assert min(recent) >= LAST_S - 22


def test_a_clock_time_of_a_stream_that_counts_from_zero_is_refused(
    robot: Robot, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, errors = memory(capsys, "list", "--since", "10:30")
    assert status == 1
    assert "count from zero" in errors


def test_forgetting_an_empty_interval_prints_what_the_memory_covers(
    robot: Robot, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, errors = memory(capsys, "forget", "--until", "12")
    assert (status, out) == (1, "")
    assert "forgot nothing" in errors
    assert "1000.0 to 1" in errors
    assert memory(capsys, "list", "--until", "12")[2].startswith("nothing from the beginning to 12.0 s")


def test_forget_prints_the_interval(robot: Robot, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = memory(capsys, "forget", "--since", "1000", "--until", "1009")
    assert status == 0
    assert "slots from 1000.0 s to 1009.0 s" in out


def test_the_answer_of_an_untrained_model_says_so(robot: Robot, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "What is there?", "--service", f"{NAMESPACE}/ask_scene", *NAMES]) == 0
    found = capsys.readouterr()
    assert found.out.startswith("[untrained]")
    assert ", uncalibrated;" in found.out
    assert "random weights" in found.err


def search(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status of a search for a red ball, and what was printed."""
    status = main(["search", "red ball", *arguments, *NAMES])
    found = capsys.readouterr()
    return status, found.out, found.err


def test_a_search_prints_moments_and_writes_a_sheet(
    robot: Robot, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    robot.fresh_status()
    sheet = tmp_path / "sheet.jpg"
    status, out, errors = search(capsys, "--top", "3", "--out", str(sheet))
    assert status == 0, errors
    lines = out.splitlines()
    assert len(lines) == 3
    assert all(
        re.fullmatch(r"0\.\d{3}  camera  1\d{3}\.0 s  \(entry: 1\d{3}\.0 s to 1\d{3}\.0 s\)", line) for line in lines
    )
    assert lines == sorted(lines, key=lambda line: -float(line.split()[0]))
    assert "random weights" in errors
    image = cv2.imread(str(sheet))
    assert image.shape[1] > 3 * SIDE > image.shape[0]


def test_a_search_for_an_image_prints_what_looks_like_it(
    robot: Robot, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    still = tmp_path / "still.png"
    # The last frame with a pair.
    cv2.imwrite(str(still), np.random.default_rng(11180).integers(0, 255, (120, 160, 3), dtype=np.uint8)[..., ::-1])
    assert main(["search", "--image", str(still), "--top", "1", *NAMES]) == 0
    assert f"  {LAST_S - 2:.1f} s  (entry:" in capsys.readouterr().out
    assert main(["search", "--image", str(tmp_path / "none.png"), *NAMES]) == 1
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_the_json_of_a_search_has_the_fields_of_the_service(robot: Robot, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = search(capsys, "--json", "--since", "-20s", "--top", "64")
    reply = json.loads(out)
    assert status == 0
    assert set(reply) == set(Search.Response.get_fields_and_field_types())
    assert reply["moments"]
    assert all(moment["until"]["sec"] >= LAST_S - 22 for moment in reply["moments"])


def test_a_search_without_a_result_says_why(robot: Robot, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    status, out, errors = search(capsys, "--since", "999999", "--out", str(sheet))
    assert (status, out) == (1, "")
    assert "error 2: nothing in the memory matches" in errors
    assert not sheet.exists()


def test_a_client_waits_as_long_as_the_node_allows(robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    assert robot._nodes_deadline_s() == 40.0
    with Robot(NAMESPACE) as early:
        with monkeypatch.context() as patch:
            patch.setattr(ask_client, "PARAMETERS_WAIT_S", 0.0)
            assert early._nodes_deadline_s() in (ask_client.LONGEST_DEADLINE_S, 40.0)  # whether it is discovered yet
        assert early._client(GetParameters, f"{NAMESPACE}/flash_vstream/get_parameters").wait_for_service(PATIENCE)
        assert early._nodes_deadline_s() == 40.0


def test_a_question_that_is_interrupted_is_cancelled_at_the_node(robot: Robot) -> None:
    failed = robot.fresh_status().questions_failed
    long = ["--max-new-tokens", "65535", "--deadline", "300", "--service", f"{NAMESPACE}/ask_scene", *NAMES]
    asking = subprocess.Popen(
        [sys.executable, "-m", "flash_vstream_ros.cli", "ask", "What is there?", "--stream", *long],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert asking.stdout is not None
    assert asking.stdout.read(1), "the answer has begun"
    asking.send_signal(signal.SIGINT)
    _, errors = asking.communicate(timeout=PATIENCE)
    assert asking.returncode == 130
    assert "Traceback" not in errors
    robot.wait_for(lambda: robot.status.questions_failed > failed)


def test_a_node_that_ends_is_reported_before_the_deadline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with NodeProcess(tmp_path, namespace="/ends") as node, Robot("/ends") as robot:
        robot.wait_until_ready()
        robot.see(range(1, 6))
        long = ["--max-new-tokens", "65535", "--deadline", "300", "--service", "/ends/ask_scene"]
        asking = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "flash_vstream_ros.cli",
                "ask",
                "?",
                "--stream",
                *long,
                "--node",
                "/ends/flash_vstream",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asking.stdout is not None
        assert asking.stdout.read(1), "the answer has begun"
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        _, errors = asking.communicate(timeout=2 * PATIENCE)
    assert asking.returncode == 1
    assert "has ended" in errors


def test_a_signal_while_replay_creates_its_node_ends_it_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: str) -> None:
        ros.shutdown()  # as rclpy's handler of a signal does
        raise RuntimeError("the given context is not valid")

    monkeypatch.setattr(ros, "Node", interrupted)
    assert main(["replay", "demo", "--wait", "0"]) == 130
