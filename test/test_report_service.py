"""The service ~/report and the command `report` as users call them, on the runtime that is installed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_until
from robot import NodeProcess, Robot

from flash_vstream_ros.ros.interfaces import Forget, Report, ReportSection, Trigger
from flash_vstream_ros.ros.stamps import stamp_at

pytestmark = pytest.mark.slow  # starts a node in a process of its own

WAIT_S = 60.0
HOUR_S = 3600


class Reader(Robot):
    """A robot that also asks for reports."""

    def reported(self, since_s: float = 0.0, until_s: float = 0.0, pictures: bool = False) -> Report.Response:
        return self.report(WAIT_S, since_s, until_s, pictures=pictures)

    def levels(self) -> list[int]:
        return [section.level for section in self.reported().sections]

    def covered_until(self) -> int:
        """Stamp of the newest frame in the report [s]; 0 without one."""
        return max((section.until.sec for section in self.reported().sections), default=0)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("reporting"), ["-p", "summary.period_s:=0.2"]) as process:
        yield process


@pytest.fixture
def robot(node: NodeProcess) -> Iterator[Reader]:
    """A robot with a node whose memory and reports are empty."""
    with Reader(node.namespace) as robot:
        robot.wait_until_ready()
        assert robot.call(Trigger, f"{robot._at}/reset", Trigger.Request(), WAIT_S).success
        yield robot


def test_an_empty_memory_has_no_report(robot: Reader) -> None:
    reply = robot.reported()
    assert (reply.error_code, list(reply.sections), list(reply.missing)) == (0, [], [])


def test_hours_are_rolled_up_when_they_have_ended_and_forgotten_with_their_parts(robot: Reader) -> None:
    robot.see(range(10, 18))
    assert wait_until(lambda: robot.covered_until() == 17)
    assert set(robot.levels()) == {ReportSection.PERIOD}
    robot.see(range(2 * HOUR_S, 2 * HOUR_S + 4))  # the next hour in any time zone
    assert wait_until(lambda: robot.levels()[:1] == [ReportSection.HOUR])
    reply = robot.reported(pictures=True)
    first = reply.sections[0]
    assert (first.since.sec, first.until.sec, first.frames) == (10, 17, 8)
    assert first.text.startswith("[untrained]")
    assert all(bytes(picture.data).startswith(b"\xff\xd8") for picture in first.pictures)
    assert first.pictures
    assert not robot.reported().sections[0].pictures
    forgotten = robot.call(Forget, f"{robot._at}/forget", Forget.Request(until=stamp_at(12.0)), WAIT_S)
    assert forgotten.error_code == 0
    assert all(section.since.sec > 12 for section in robot.reported().sections)


def test_a_killed_node_still_reports_what_was_saved_and_nothing_that_was_forgotten(tmp_path: Path) -> None:
    settings = ["-p", "summary.period_s:=0.2", "-p", f"archive.path:={tmp_path / 'archive'}"]
    with NodeProcess(tmp_path, settings) as process, Reader(process.namespace) as robot:
        robot.wait_until_ready()
        robot.see(range(10, 14))
        assert wait_until(lambda: robot.covered_until() == 13)
        robot.see(range(2 * HOUR_S, 2 * HOUR_S + 4))
        assert wait_until(lambda: robot.levels()[:1] == [ReportSection.HOUR])
        robot.see(range(4 * HOUR_S, 4 * HOUR_S + 4))
        assert wait_until(lambda: robot.levels()[:2] == [ReportSection.HOUR] * 2)
        request = Forget.Request(until=stamp_at(HOUR_S))
        assert robot.call(Forget, f"{robot._at}/forget", request, WAIT_S).error_code == 0
        assert robot.call(Trigger, f"{robot._at}/save", Trigger.Request(), WAIT_S).success
        before = robot.reported(until_s=3 * HOUR_S, pictures=True).sections
        process.process.send_signal(signal.SIGKILL)
        process.process.wait()
        with NodeProcess(tmp_path, settings, namespace=process.namespace), Reader(process.namespace) as again:
            again.wait_until_ready()
            after = again.reported(until_s=3 * HOUR_S, pictures=True).sections
    assert [section.since.sec for section in before] == [2 * HOUR_S]
    assert after == before


def test_what_no_summary_covers_is_summarised_on_demand(robot: Reader) -> None:
    robot.see(range(100, 140))
    reply = robot.reported(110, 120)
    assert reply.error_code == 0
    assert reply.sections
    assert all(section.until.sec >= 110 and section.since.sec <= 120 for section in reply.sections)


def test_a_contradictory_interval_is_refused(robot: Reader) -> None:
    reply = robot.reported(20, 10)
    assert reply.error_code == Report.Response.INVALID_REQUEST
    assert "since is later than until" in reply.error_msg


def test_the_command_writes_markdown_and_pictures(robot: Reader, tmp_path: Path) -> None:
    robot.see(range(10, 18))
    assert wait_until(robot.levels)
    command = [sys.executable, "-m", "flash_vstream_ros.cli", "report", "--wait", f"{WAIT_S:.0f}"]
    command += ["--node", robot._at, "--out", str(tmp_path / "day.md")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S * 3, check=False)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "day.md").read_text()
    pictures = sorted((tmp_path / "day_pictures").glob("*.jpg"))
    assert "## " in text
    assert pictures
    assert all(f"({picture.relative_to(tmp_path)})" in text for picture in pictures)
