"""Replay: frames and stamps from videos, folders and bags, and the times at which they are sent."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from robot import new_namespace

from flash_vstream_ros.cli.camera_publisher import Pacer, restamped
from flash_vstream_ros.cli.replay import add_arguments
from flash_vstream_ros.cli.sources import SECOND, SourceError, SourceFrame, open_source


def shade(index: int) -> np.ndarray:
    """An image recognisable after lossy coding: grey level 20 * index, red corner."""
    rgb = np.full((48, 64, 3), 20 * index, np.uint8)
    rgb[:16, :16] = 255, 0, 0
    return rgb


def level(rgb: np.ndarray) -> int:
    return round(float(rgb[24:, 24:].mean()) / 20)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (64, 48))
    for index in range(10):
        writer.write(shade(index)[..., ::-1])
    writer.release()
    return path


def test_a_video_gives_rgb_frames_stamped_by_its_frame_rate(video: Path) -> None:
    source = open_source(str(video), base_ns=7 * SECOND)
    frames = list(source)
    assert source.frames == len(frames) == 10
    assert [f.stamp_ns for f in frames] == [7 * SECOND + i * SECOND // 5 for i in range(10)]
    assert [level(f.rgb) for f in frames] == list(range(10))
    assert frames[4].rgb[4, 4, 0] > 200 > frames[4].rgb[4, 4, 2]
    assert [f.stamp_ns for f in source] == [f.stamp_ns for f in frames], "it can be read again"


def test_the_frame_rate_of_a_video_can_be_overridden(video: Path) -> None:
    assert [f.stamp_ns for f in open_source(str(video), fps=50.0)][:3] == [0, SECOND // 50, SECOND // 25]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("missing.mp4", None, "does not exist"), ("text.mp4", b"not a video", "no video"), ("empty", "", "no images")],
)
def test_an_unsupported_source_is_refused_with_a_sentence(
    tmp_path: Path, name: str, content: bytes | str | None, words: str
) -> None:
    path = tmp_path / name
    if content == "":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(SourceError, match=words):
        open_source(str(path))


@pytest.mark.parametrize("fps", [-1.0, float("nan"), float("inf")])
def test_an_impossible_frame_rate_is_refused(video: Path, fps: float) -> None:
    with pytest.raises(SourceError, match="--fps"):
        open_source(str(video), fps=fps)


def test_the_demo_patrol_is_a_source() -> None:
    source = open_source("demo:3", fps=2.0)
    first, second = (frame for frame, _ in zip(source, range(2), strict=False))
    assert first.rgb.shape == (448, 448, 3)
    assert second.stamp_ns - first.stamp_ns == SECOND // 2
    assert source.frames
    assert source.frames > 100


@pytest.mark.parametrize("start", [None, 0, 100 * SECOND])
def test_stamps_move_to_the_start_and_loops_follow_without_a_gap(video: Path, start: int | None) -> None:
    frames = restamped(open_source(str(video), base_ns=3 * SECOND), start, loop=True)
    stamps = [frame.stamp_ns for frame, _ in zip(frames, range(35), strict=False)]
    first = 3 * SECOND if start is None else start
    assert stamps == [first + i * SECOND // 5 for i in range(35)]
    assert len(list(restamped(open_source(str(video)), start, loop=False))) == 10


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


@pytest.mark.parametrize("rate", [0.5, 1.0, 4.0])
def test_frames_are_sent_at_clip_time_divided_by_the_rate(rate: float) -> None:
    clock = Clock()
    pacer = Pacer(rate, lambda: True, clock.now, clock.sleep)
    sent = []
    for stamp_ns in (5 * SECOND, 6 * SECOND, 8 * SECOND):
        assert pacer.wait_until_due(stamp_ns) < 1e-6
        sent.append(clock.now_s - 1000.0)
    np.testing.assert_allclose(sent, [0.0, 1.0 / rate, 3.0 / rate], atol=1e-6)


def test_a_late_frame_is_sent_at_once_and_reported() -> None:
    clock = Clock()
    pacer = Pacer(1.0, lambda: True, clock.now, clock.sleep)
    pacer.wait_until_due(0)
    clock.now_s += 3.0
    assert pacer.wait_until_due(SECOND) == pytest.approx(2.0)
    assert pacer.wait_until_due(0) > 0, "stamps that jump back do not block"


def test_rate_zero_is_bounded_and_a_stop_ends_a_long_wait() -> None:
    clock = Clock()
    pacer = Pacer(0.0, lambda: True, clock.now, clock.sleep)
    for index in range(101):
        pacer.wait_until_due(index * 3600 * SECOND)
    assert clock.now_s - 1000.0 == pytest.approx(1.0, abs=0.02)
    stops = iter([True, False])
    waiting = Pacer(1.0, lambda: next(stops), clock.now, clock.sleep)
    waiting.wait_until_due(0)
    before = clock.now_s
    waiting.wait_until_due(3600 * SECOND)
    assert clock.now_s - before < 1.0


def test_the_options_say_what_they_mean() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(["clip.mp4"])
    assert (args.topic, args.rate, args.start_at, args.start_now, args.encoding) == ("image", 1.0, None, False, "rgb8")
    assert parser.parse_args(["clip.mp4", "--stamps-from-zero"]).start_at == 0.0
    with pytest.raises(SystemExit):
        parser.parse_args(["clip.mp4", "--start-now", "--start-at", "3"])


def test_a_single_frame_loops_with_increasing_stamps() -> None:
    one = [SourceFrame(SECOND, shade(1))]
    stamps = [frame.stamp_ns for frame, _ in zip(restamped(one, 0, True), range(3), strict=False)]
    assert stamps == sorted(set(stamps))


def test_a_replayed_video_arrives_complete_at_reliable_and_best_effort_subscribers(video: Path, tmp_path: Path) -> None:
    ros = pytest.importorskip("flash_vstream_ros.ros")
    from flash_vstream_ros.ros.images import to_rgb
    from flash_vstream_ros.ros.interfaces import Image

    reliable: list[tuple[int, int]] = []
    best_effort: list[int] = []
    film = f"{new_namespace()}/film"
    ros.init(args=[])
    try:
        node = ros.Node("listener")
        node.create_subscription(Image, film, lambda m: reliable.append((m.header.stamp.sec, level(to_rgb(m)))), 10)
        node.create_subscription(
            Image, film, lambda m: best_effort.append(m.header.stamp.sec), ros.qos_profile_sensor_data
        )
        executor = ros.SingleThreadedExecutor()
        executor.add_node(node)
        command = [sys.executable, "-m", "flash_vstream_ros.cli", "replay", str(video), "--topic", "/nowhere"]
        options = ["--fps", "1", "--rate", "20", "--start-at", "30", "--json", str(tmp_path / "sent.json")]
        options += ["--ros-args", "-r", f"/nowhere:={film}"]
        with subprocess.Popen([*command, *options]) as replay:
            until = time.monotonic() + 60
            while (replay.poll() is None or len(reliable) < 10) and time.monotonic() < until:
                executor.spin_once(timeout_sec=0.05)
    finally:
        ros.shutdown()
    assert replay.returncode == 0
    assert reliable == [(30 + index, index) for index in range(10)]
    assert best_effort == list(range(30, 40))
    sent = json.loads((tmp_path / "sent.json").read_text())
    assert (sent["sent"], sent["first_stamp"], sent["last_stamp"], sent["subscribers"]) == (10, 30.0, 39.0, 2)
