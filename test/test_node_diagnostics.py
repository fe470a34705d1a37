"""/diagnostics of a running node, over DDS: reports of good, silent and unusable cameras."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robot import SECOND, START_S, NodeProcess, Robot

from flash_vstream_ros.node.diagnostics import Level
from flash_vstream_ros.ros import QoSProfile
from flash_vstream_ros.ros.images import from_rgb
from flash_vstream_ros.ros.interfaces import DiagnosticArray, DiagnosticStatus, Image, TimeMsg, interface

pytestmark = pytest.mark.slow  # starts nodes in processes of their own

FAST = ["-p", "diagnostics.period_s:=0.1"]


class Monitor(Robot):
    """A robot that also reads /diagnostics, as rqt_robot_monitor does."""

    def __enter__(self) -> Monitor:
        super().__enter__()
        self.reports: dict[str, Any] = {}
        self.header: Any = None
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, QoSProfile(depth=10))
        return self

    def _on_diagnostics(self, message: Any) -> None:
        for report in message.status:
            if report.hardware_id == self._at:
                self.reports[report.name] = report
                self.header = message.header

    def level(self, task: str) -> Level | None:
        report = self.reports.get(f"flash_vstream: {task}")
        if report is None:
            return None
        return Level(report.level if isinstance(report.level, int) else report.level[0])

    def text(self, task: str) -> str:
        report = self.reports.get(f"flash_vstream: {task}")
        return "" if report is None else str(report.message)

    def value(self, task: str, key: str) -> str:
        return str({pair.key: pair.value for pair in self.reports[f"flash_vstream: {task}"].values}[key])

    def stream(self, until: Any, stamp_ns: Any = time.time_ns, **changes: Any) -> None:
        """Publish an image repeatedly until a condition holds."""
        rgb = np.full((60, 80, 3), 90, np.uint8)

        def sent() -> bool:
            image = from_rgb(rgb, stamp_ns(), "", Image)
            for field, value in changes.items():
                setattr(image, field, value)
            self.images.publish(image)
            return bool(until())

        self.wait_for(sent)


def test_the_levels_are_those_of_the_message() -> None:
    for level in Level:
        constant = getattr(DiagnosticStatus, level.name)
        assert (constant if isinstance(constant, int) else constant[0]) == level


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("watched"), FAST) as process:
        yield process


@pytest.fixture(scope="module")
def monitor(node: NodeProcess) -> Iterator[Monitor]:
    with Monitor(node.namespace) as robot:
        robot.ask_when_ready(robot.request("ready?"), START_S)
        robot.wait_for(lambda: robot.level("model") is Level.OK and robot.images.get_subscription_count() > 0)
        yield robot


def test_missing_working_and_silent_cameras_have_their_levels(node: NodeProcess, monitor: Monitor) -> None:
    assert set(monitor.reports) == {f"flash_vstream: {task}" for task in ("camera camera", "model", "memory")}
    monitor.wait_for(lambda: monitor.text("camera camera") == f"no image yet on {node.namespace}/image")
    assert monitor.level("camera camera") is Level.WARN
    monitor.stream(lambda: monitor.level("camera camera") is Level.OK)
    monitor.stream(lambda: float(monitor.value("camera camera", "rate ingested [1/s]")) > 0)
    assert float(monitor.value("camera camera", "rate received [1/s]")) > 0
    monitor.stream(lambda: abs(float(monitor.value("camera camera", "frame age [s]"))) < 5)
    assert monitor.value("camera camera", "topic") == f"{node.namespace}/image"
    monitor.wait_for(lambda: monitor.text("camera camera").startswith("no image for "))
    assert monitor.level("camera camera") is Level.WARN
    monitor.stream(lambda: monitor.level("camera camera") is Level.OK)


def test_memory_and_model_report_their_values(monitor: Monitor) -> None:
    monitor.stream(
        lambda: int(monitor.value("memory", "slots ingested") if monitor.text("memory") != "empty" else 0) > 1
    )
    monitor.ask(monitor.request("What is there?"))
    monitor.wait_for(lambda: int(monitor.value("model", "questions answered")) > 0)
    assert monitor.value("memory", "entries").endswith(" of 90")
    assert int(monitor.value("memory", "tokens")) > 0 < int(monitor.value("memory", "bytes"))
    for work in ("encode a slot", "update the memory", "answer"):
        assert 0 < float(monitor.value("model", f"{work} p50 [s]")) <= float(monitor.value("model", f"{work} p95 [s]"))
    assert monitor.value("model", "state") == "READY"
    assert abs(monitor.header.stamp.sec - time.time()) < 30


def test_a_camera_with_only_dropped_frames_is_an_error_with_the_reason(monitor: Monitor) -> None:
    monitor.stream(lambda: monitor.level("camera camera") is Level.ERROR, encoding="klingon8")
    assert "unknown_encoding" in monitor.text("camera camera")
    assert int(monitor.value("camera camera", "dropped: unknown_encoding")) > 2
    assert "klingon8" in monitor.value("model", "last error")


def test_images_that_arrive_late_are_a_warning(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, FAST) as node, Monitor(node.namespace) as robot:
        robot.ask_when_ready(robot.request("ready?"), START_S)
        robot.stream(lambda: " s old on arrival" in robot.text("camera camera"), lambda: time.time_ns() - 60 * SECOND)
        assert robot.level("camera camera") is Level.WARN


def test_ages_and_stamps_follow_simulated_time(tmp_path: Path) -> None:
    arguments = ["-p", "use_sim_time:=true", *FAST]
    with NodeProcess(tmp_path, arguments) as node, Monitor(node.namespace) as robot:
        robot.ask_when_ready(robot.request("ready?"), START_S)
        robot.wait_for(lambda: "/clock" in robot.text("model"))
        clock = robot.node.create_publisher(interface("rosgraph_msgs/msg/Clock"), "/clock", 10)
        second = 1000

        def simulated() -> int:
            nonlocal second
            second += 1
            clock.publish(interface("rosgraph_msgs/msg/Clock")(clock=TimeMsg(sec=second)))
            return second * SECOND - SECOND // 4

        robot.stream(lambda: robot.level("model") is robot.level("camera camera") is Level.OK, simulated)
        robot.stream(lambda: float(robot.value("camera camera", "rate received [1/s]")) > 0.5, simulated)
        assert 1000 < robot.header.stamp.sec <= second
        robot.stream(lambda: 0 < float(robot.value("camera camera", "frame age [s]")) < 30, simulated)


def test_a_model_that_fails_to_load_is_an_error_with_the_reason(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, FAST, model=str(tmp_path / "nowhere")) as node, Monitor(node.namespace) as robot:
        robot.wait_for(lambda: robot.level("model") is Level.ERROR)
        assert "nowhere" in robot.text("model")
        assert robot.level("camera camera") is Level.OK
        assert robot.text("camera camera") == "not watched: the node is failed"


def test_a_period_of_zero_publishes_no_diagnostics(tmp_path: Path) -> None:
    arguments = ["-p", "diagnostics.period_s:=0.0"]
    with NodeProcess(tmp_path, arguments) as node, Monitor(node.namespace) as robot:
        robot.ask_when_ready(robot.request("ready?"), START_S)
        robot.spin(2.0)
        assert not robot.reports
