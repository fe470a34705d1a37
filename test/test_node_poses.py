"""Poses through the node as users run it: from a topic to the entries of the memory, and questions about a place."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import wait_until
from robot import NodeProcess, Robot, new_namespace

from flash_vstream_ros.cli import main
from flash_vstream_ros.memory.pose import MaybePose, Pose, UnknownPose
from flash_vstream_ros.node.diagnostics import Level
from flash_vstream_ros.node.place_markers import marker_array_type
from flash_vstream_ros.node.poses.pose_config import PoseConfig
from flash_vstream_ros.node.poses.pose_report import pose_report
from flash_vstream_ros.node.poses.pose_source import PoseSource
from flash_vstream_ros.ros import Node, SignalHandlerOptions, SingleThreadedExecutor, init, shutdown
from flash_vstream_ros.ros.interfaces import (
    AddWatch,
    DiagnosticArray,
    DiagnosticStatus,
    Event,
    Forget,
    Header,
    ListMemory,
    MemoryEntry,
    Point,
    PoseStamped,
    PoseWithCovarianceStamped,
    Watch,
    interface,
)
from flash_vstream_ros.ros.stamps import seconds, stamp_at

pytestmark = pytest.mark.slow  # starts nodes in processes of their own

WAIT_S = 60.0
ARGS = ["-p", "pose.source:=topic", "-p", "pose.max_wait_s:=5.0", "-p", "pose.map_id:=ground"]


class Localised(Robot):
    """A robot whose x coordinate in metres is the stamp in seconds."""

    def __enter__(self) -> Localised:
        super().__enter__()
        self.poses = self.node.create_publisher(PoseWithCovarianceStamped, f"{self._namespace}/pose", 10)
        return self

    def localise(self, second: float, frame_id: str = "map", x: float | None = None) -> None:
        message = PoseWithCovarianceStamped(header=Header(stamp=stamp_at(second), frame_id=frame_id))
        message.pose.pose.position.x = second if x is None else x
        message.pose.pose.orientation.w = 1.0
        message.pose.covariance = [0.25] * 36
        self.poses.publish(message)

    def drive(self, first: int, last: int) -> None:
        """See one image per second, each between two poses."""
        for second in range(first, last + 1):
            for part in (-0.4, 0.1, 0.4):
                self.localise(second + part)
            self.see([second])

    def entries(self, x: float = 0.0, radius: float = 0.0) -> list[MemoryEntry]:
        request = ListMemory.Request(near=Point(x=x), radius=radius)
        reply = self.call(ListMemory, f"{self._at}/list_memory", request, WAIT_S)
        assert reply.error_code == reply.NONE, reply.error_msg
        return list(reply.entries)


def stamp_of(entry: MemoryEntry) -> float:
    return seconds(entry.thumbnail.header.stamp)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("poses"), ARGS) as node:
        yield node


@pytest.fixture(scope="module")
def robot(node: NodeProcess) -> Iterator[Localised]:
    with Localised(node.namespace) as robot:
        robot.wait_until_ready()
        robot.wait_for(lambda: robot.poses.get_subscription_count() > 0)
        yield robot


def test_bad_poses_are_refused_with_a_message_and_the_node_goes_on(node: NodeProcess, robot: Localised) -> None:
    def refused() -> bool:  # repeated, since the first ones may come before the subscription
        robot.localise(9.0, "odom")
        robot.localise(9.0, x=math.nan)
        return "frame 'odom', but pose.fixed_frame is 'map'" in node.log and "NaN or infinite" in node.log

    robot.wait_for(refused)


def test_entries_carry_the_pose_of_their_image_or_that_it_is_unknown(robot: Localised) -> None:
    for _ in range(3):
        robot.localise(10.0)
    robot.see([1, 2])  # before the first pose
    robot.drive(11, 30)
    entries = robot.entries()
    unknown = [entry for entry in entries if not entry.pose_known]
    known = [entry for entry in entries if entry.pose_known]
    assert {(stamp_of(each), each.pose_unknown, each.pose.header.frame_id) for each in unknown} <= {
        (2.0, "before_first", ""),
        (2.0, "late", ""),
    }
    assert unknown
    assert len(known) > 5
    for entry in known:
        assert entry.pose.pose.pose.position.x == pytest.approx(stamp_of(entry))
        assert entry.pose.header.stamp == entry.thumbnail.header.stamp
        assert (entry.pose.header.frame_id, entry.map_id, entry.pose_unknown) == ("map", "ground", "")
        assert entry.pose.pose.covariance[0] == pytest.approx(0.25)
        assert entry.pose_spread <= seconds(entry.until) - seconds(entry.since) + 1e-3


def test_a_circle_limits_lists_searches_and_answers_to_known_poses_inside(robot: Localised) -> None:
    inside = robot.entries(20.0, 2.5)
    assert inside
    assert all(17.5 <= stamp_of(entry) <= 22.5 for entry in inside)
    answered = robot.ask(robot.request("What is there?", near=(20.0, 0.0), radius=2.5))
    found = robot.search_when_ready("red ball", WAIT_S, near=(20.0, 0.0), radius=2.5)
    for reply, evidence in ((answered, answered.evidence), (found, found.moments)):
        assert reply.error_code == reply.NONE, reply.error_msg
        assert evidence
        assert all(17.5 <= stamp_of(entry) <= 22.5 for entry in evidence)
    nowhere = robot.ask(robot.request("What is there?", near=(20.0, 90.0), radius=2.5))
    assert nowhere.error_code == nowhere.NO_FRAMES
    assert "place" in nowhere.error_msg
    for radius in (-1.0, math.nan, math.inf):
        refused = robot.ask(robot.request("What is there?", radius=radius))
        assert (refused.error_code, "radius" in refused.error_msg) == (refused.INVALID_REQUEST, True)


@pytest.mark.skipif(marker_array_type() is None, reason="visualization_msgs is not installed")
def test_each_known_place_has_a_marker(robot: Localised) -> None:
    known = [entry for entry in robot.entries() if entry.pose_known]
    arrays: list[Any] = []
    subscription = robot.node.create_subscription(marker_array_type(), f"{robot._at}/places", arrays.append, 1)
    robot.wait_for(lambda: bool(arrays), WAIT_S)
    robot.node.destroy_subscription(subscription)
    first, *markers = arrays[0].markers
    assert first.action == first.DELETEALL
    assert len(markers) == len(known)
    assert {marker.header.frame_id for marker in markers} == {"map"}
    assert {marker.ns for marker in markers} == {entry.camera for entry in known}
    positions = sorted(marker.pose.position.x for marker in markers)
    assert positions == pytest.approx(sorted(entry.pose.pose.pose.position.x for entry in known))


def test_where_prints_the_pose_of_the_best_moment(robot: Localised, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["--node", robot._at, "--wait", str(WAIT_S)]
    assert main(["where", "red ball", "--near", "20,0", "--radius", "2.5", *names]) == 0
    shown = capsys.readouterr().out
    x = float(shown.removeprefix("x ").split(" m, ")[0])
    assert 17.5 <= x <= 22.5
    assert shown.startswith(f"x {x:.2f} m, y 0.00 m, heading 0 degrees in map ground")
    assert main(["where", "red ball", "--json", "--near", "20,0", *names]) == 0
    moment = json.loads(capsys.readouterr().out)
    assert (moment["pose_known"], moment["pose"]["header"]["frame_id"], moment["map_id"]) == (True, "map", "ground")
    assert main(["where", "red ball", "--until", "3", *names]) == 1
    printed = capsys.readouterr()
    assert "pose unknown" in printed.out
    assert "no relevant moment has a pose" in printed.err


def test_what_was_seen_at_a_place_can_be_forgotten(robot: Localised) -> None:
    request = Forget.Request(near=Point(x=20.0), radius=2.5)
    reply = robot.call(Forget, f"{robot._at}/forget", request, WAIT_S)
    assert (reply.error_code, reply.slots > 0) == (reply.NONE, True), reply.error_msg
    assert not robot.entries(20.0, 2.5)
    assert robot.entries(29.0, 1.5)


def test_another_map_id_is_reported_and_old_poses_keep_theirs(
    node: NodeProcess, robot: Localised, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = interface("rcl_interfaces/srv/SetParameters")
    value = interface("rcl_interfaces/msg/ParameterValue")(type=4, string_value="upstairs")
    changed = interface("rcl_interfaces/msg/Parameter")(name="pose.map_id", value=value)
    reply = robot.call(kind, f"{robot._at}/set_parameters", kind.Request(parameters=[changed]), WAIT_S)
    assert reply.results[0].successful, reply.results[0].reason
    robot.drive(41, 46)
    assert "poses are now in the map 'upstairs'" in node.log
    assert {entry.map_id for entry in robot.entries()} == {"", "ground", "upstairs"}
    assert {entry.map_id for entry in robot.entries(35.0, 30.0)} == {"upstairs"}
    names = ["--node", robot._at, "--wait", str(WAIT_S)]
    assert main(["where", "red ball", "--json", "--until", "31", *names]) == 1
    printed = capsys.readouterr()
    moment = json.loads(printed.out)
    assert (moment["pose_known"], moment["pose_unknown"], moment["map_id"]) == (False, "other_map", "ground")
    assert moment["pose"]["pose"]["pose"]["position"]["x"] == 0.0
    assert "the robot is now in the map 'upstairs'" in printed.err
    assert main(["where", "red ball", "--since", "41", *names]) == 0
    assert "degrees in map upstairs" in capsys.readouterr().out


def test_an_event_has_the_known_pose_of_its_evidence_and_diagnostics_report_both(robot: Localised) -> None:
    events: list[Event] = []
    rows: dict[str, DiagnosticStatus] = {}

    def keep(message: DiagnosticArray) -> None:
        rows.update({row.name: row for row in message.status if row.hardware_id == robot._at})

    robot.node.create_subscription(DiagnosticArray, "/diagnostics", keep, 10)
    robot.node.create_subscription(Event, f"{robot._at}/events", events.append, 10)
    robot.wait_for(lambda: robot.node.count_publishers(f"{robot._at}/events") > 0)
    request = AddWatch.Request(watch=Watch(watch_id="it", text="Is it there?", on=1e-6, off=1e-6))  # always
    reply = robot.call(AddWatch, f"{robot._at}/add_watch", request, WAIT_S)
    assert reply.error_code == reply.NONE, reply.error_msg
    robot.drive(51, 54)
    robot.wait_for(lambda: bool(events))
    (entry,) = events[0].evidence
    assert (entry.pose_known, entry.pose_unknown) == (True, "")
    assert (entry.pose.header.frame_id, entry.pose.header.stamp) == ("map", events[0].header.stamp)
    assert entry.pose.pose.pose.position.x == pytest.approx(seconds(events[0].header.stamp))

    def values(task: str) -> dict[str, str]:
        row = rows.get(f"flash_vstream: {task}")
        return {} if row is None else {pair.key: pair.value for pair in row.values}

    robot.wait_for(lambda: (values("watches").get("active"), values("watches").get("events")) == ("1", "1"))
    robot.wait_for(lambda: int(values("poses").get("known", 0)) > 0)
    assert int(values("watches")["checks failed"]) == 0


@pytest.fixture
def pose_node() -> Iterator[tuple[Node, SingleThreadedExecutor]]:
    init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node, executor = Node("poses", namespace=new_namespace()), SingleThreadedExecutor()
    executor.add_node(node)
    yield node, executor
    executor.shutdown()
    node.destroy_node()
    shutdown()


def test_a_late_pose_is_waited_for_and_a_search_ends_when_its_time_is_over(
    pose_node: tuple[Node, SingleThreadedExecutor],
) -> None:
    node, executor = pose_node
    publisher = node.create_publisher(PoseStamped, "pose", 10)
    source = PoseSource(node, PoseConfig("topic", max_wait_s=10 * WAIT_S))
    impatient = PoseSource(node, PoseConfig("topic", topic="silent", max_wait_s=0.0))
    never = impatient.find("camera", 10**9)
    found = source.find("camera", 1_500_000_000)
    message = PoseStamped(header=Header(frame_id="map"))
    message.pose.orientation.w = 1.0

    def spin_and_localise() -> bool:
        for second, frame_id in ((1, "map"), (2, "map"), (2, "odom")):
            message.header.stamp.sec, message.header.frame_id = second, frame_id
            publisher.publish(message)
        executor.spin_once(timeout_sec=0.05)
        return found.done() and never.done() and bool(source.counts.refused)

    assert wait_until(spin_and_localise)
    pose: MaybePose = found.result()
    assert isinstance(pose, Pose)
    assert pose.stamp_ns == 1_500_000_000
    assert never.result() == UnknownPose("no_message")
    invalid = PoseSource(node, PoseConfig("topic", topic="no topic!"))
    assert invalid.find("camera", 10**9).result(timeout=0) == UnknownPose("bad_topic")
    invalid.close()
    assert (impatient.counts.unknown, impatient.counts.last_unknown) == ((("no_message", 1),), "no_message")
    good, bad = pose_report(source.counts), pose_report(impatient.counts)
    assert (good.task, good.level, good.message) == ("poses", Level.OK, "poses of 1 of 1 frames are known")
    ((known, count), (refused, times)) = good.values
    assert (known, count, refused.startswith("refused: "), int(times) > 0) == ("known", "1", True, True)
    assert (bad.level, bad.message) == (Level.WARN, "the pose of the newest frame is unknown: no_message")
    assert bad.values == (("known", "0"), ("unknown: no_message", "1"))
    unfinished = source.find("camera", 9 * 10**9)
    source.close()
    impatient.close()
    assert unfinished.result(timeout=0) == UnknownPose("closed")
