"""Poses from tf: of the chosen frame, of the map of then, and never interpolated across a jump."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.pose import IDENTITY, MaybePose, Pose, Quaternion, UnknownPose
from flash_vstream_ros.node.poses import tf_poses
from flash_vstream_ros.node.poses.pose_config import PoseConfig
from flash_vstream_ros.node.poses.pose_history import NotYet
from flash_vstream_ros.node.poses.transform_history import Transform, TransformHistory
from flash_vstream_ros.ros.transforms import NoTransform, Received, Transforms

SECOND = 1_000_000_000
YAW_90: Quaternion = (0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5))


def stamped(seconds: float, parent: str, child: str, x: float) -> Any:
    """A geometry_msgs/TransformStamped, which the wheels lack."""
    stamp = SimpleNamespace(sec=int(seconds), nanosec=round((seconds - int(seconds)) * SECOND))
    header = SimpleNamespace(frame_id=parent, stamp=stamp)
    rotation, translation = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0), SimpleNamespace(x=x, y=0.0, z=0.0)
    transform = SimpleNamespace(translation=translation, rotation=rotation)
    return SimpleNamespace(header=header, child_frame_id=child, transform=transform)


class FakeTransforms:
    """Stands in for tf2, which the wheels lack: interpolates each transform along x alone, as tf2 does."""

    def __init__(self, node: object, received: Received) -> None:
        self._received = received
        self._points: dict[str, list[tuple[int, float]]] = {}  # by child: stamps [ns] and x [m]
        self._parents: dict[str, str] = {}

    def receive(self, seconds: float, parent: str, child: str, x: float) -> None:
        self._received(stamped(seconds, parent, child, x), False)
        self._parents[child] = parent
        self._points.setdefault(child, []).append((round(seconds * SECOND), x))

    def look_up(self, target: str, source: str, stamp_ns: int) -> tuple[tuple[float, ...], Quaternion]:
        return (self._x(source, stamp_ns) - self._x(target, stamp_ns), 0.0, 0.0), IDENTITY

    def _x(self, frame: str, stamp_ns: int) -> float:
        if frame not in self._points:
            return 0.0
        points = self._points[frame]
        if not points[0][0] <= stamp_ns <= points[-1][0]:
            raise NoTransform("late", "extrapolation into the future")
        at = max(1, next(place for place, (stamp, _) in enumerate(points) if stamp >= stamp_ns))
        (first, x), (last, other) = points[at - 1 : at + 1]
        return x + (other - x) * (stamp_ns - first) / (last - first) + self._x(self._parents[frame], stamp_ns)

    def close(self) -> None:
        pass


@pytest.fixture
def tf(monkeypatch: pytest.MonkeyPatch) -> tuple[tf_poses.TfPoses, Any, list[str]]:
    """Poses of base_link in the map "ground" from a stand-in for tf2, that stand-in, and what was logged."""
    monkeypatch.setattr(tf_poses, "Transforms", FakeTransforms)
    said: list[str] = []
    config = PoseConfig("tf", robot_frame="base_link", map_id="ground")
    poses = tf_poses.TfPoses(None, config, ThrottledLog(said.append, 0.0))  # type: ignore[arg-type]
    return poses, poses._transforms, said


def drive(transforms: Any, first: float, last: float, correction: float) -> None:
    """Odometry at 20 Hz, 1 m/s, and its correction at 10 Hz."""
    for step in range(round(first * 20), round(last * 20) + 1):
        transforms.receive(step / 20, "odom", "base_link", step / 20)
        if step % 2 == 0:
            transforms.receive(step / 20, "map", "odom", correction)


def x_of(pose: MaybePose) -> float | str:
    return round(pose.position[0], 6) if isinstance(pose, Pose) else pose.reason


def test_a_pose_that_tf_interpolates_across_a_jump_is_unknown(tf: tuple[tf_poses.TfPoses, Any, list[str]]) -> None:
    poses, transforms, said = tf
    drive(transforms, 1.0, 2.0, 0.0)
    drive(transforms, 2.05, 3.0, 9.0)  # the correction jumps between 2.0 and 2.1
    stamps = (1.93, 2.0, 2.01, 2.05, 2.09, 2.1, 2.13)
    found = [x_of(poses.at("camera", round(stamp * SECOND))) for stamp in stamps]
    assert found == [1.93, 2.0, "jump", "jump", "jump", 11.1, 11.13]
    assert "jumped by 9.0 m in 0.10 s" in said[0]


def test_a_pose_belongs_to_the_map_in_which_its_transforms_were_received(
    tf: tuple[tf_poses.TfPoses, Any, list[str]],
) -> None:
    poses, transforms, said = tf
    drive(transforms, 1.0, 2.0, 0.0)
    poses.config = replace(poses.config, map_id="upstairs")
    drive(transforms, 2.05, 3.0, 0.0)
    before, between, after = (poses.at("camera", round(stamp * SECOND)) for stamp in (1.5, 2.02, 2.5))
    assert isinstance(before, Pose)
    assert isinstance(after, Pose)
    assert (before.map_id, between, after.map_id) == ("ground", UnknownPose("jump"), "upstairs")
    assert "map 'upstairs'" in said[0]


def test_tf_gives_the_pose_of_the_chosen_frame(tf: tuple[tf_poses.TfPoses, Any, list[str]]) -> None:
    poses, transforms, _ = tf
    drive(transforms, 1.0, 2.0, 0.0)
    for second in (1.0, 2.0):
        transforms.receive(second, "base_link", "camera", 0.25)
    assert x_of(poses.at("camera", round(1.5 * SECOND))) == 1.5
    poses.config = replace(poses.config, robot_frame="")
    assert x_of(poses.at("/camera", round(1.5 * SECOND))) == 1.75
    assert poses.at("", SECOND) == UnknownPose("no_frame_id")
    with pytest.raises(NotYet) as waiting:
        poses.at("camera", 3 * SECOND)
    assert waiting.value.reason == "late"


@pytest.mark.parametrize("target", ["map", "odom"])
def test_a_small_turn_of_a_distant_frame_is_a_jump_on_either_side_of_the_way(target: str) -> None:
    """The correction turns by 90 degrees between two stamps; the robot stands `x` from the origin of odom."""
    source = "base_link" if target == "map" else "map"
    history = TransformHistory("")
    for stamp_ns, orientation in ((0, IDENTITY), (SECOND // 10, YAW_90)):
        history.add(Transform(stamp_ns, "map", "odom", (0.0, 0.0, 0.0), orientation), False)
    history.add(Transform(0, "odom", "base_link", (0.0, 0.0, 0.0), IDENTITY), True)
    sentences = [history.check(target, source, SECOND // 20, lambda _, x=x: (x, 0.0, 0.0))[1] for x in (0.3, 8.0)]
    assert sentences[0] == ""
    assert "jumped by 11.3 m" in sentences[1]


def test_what_tf2_refuses_and_frames_beside_the_way_are_not_taken_for_jumps() -> None:
    history = TransformHistory("")
    for stamp_ns, x, child in (
        (0, 0.0, "odom"),
        (1, math.nan, "odom"),
        (1, 90.0, ""),
        (2, 0.0, "odom"),
        (0, 0.0, "arm"),
    ):
        history.add(Transform(stamp_ns * SECOND, "map", child, (x, 0.0, 0.0), IDENTITY), False)
    history.add(Transform(2 * SECOND, "map", "arm", (90.0, 0.0, 0.0), IDENTITY), False)
    for stamp_ns in (SECOND // 2, SECOND, 3 * SECOND // 2):
        assert history.check("map", "odom", stamp_ns, lambda _: (0.0, 0.0, 0.0)) == ("", "")


def test_each_transform_reaches_the_observer_and_the_buffer_of_tf2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for tf2_ros and its listener, which calls these two methods of its buffer."""
    kept: list[Any] = []
    listeners: list[Any] = []
    module: Any = ModuleType("tf2_ros")
    keep = SimpleNamespace(
        set_transform=lambda *each: kept.append(each), set_transform_static=lambda *e: kept.append(e)
    )
    module.Buffer, module.TransformListener = (lambda: keep), (lambda buffer, node: listeners.append(buffer))
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    time: Any = ModuleType("rclpy.time")
    time.Time = int
    monkeypatch.setitem(sys.modules, "rclpy.time", time)
    monkeypatch.setitem(sys.modules, "rclpy", ModuleType("rclpy"))
    observed: list[tuple[Any, bool]] = []
    Transforms(None, lambda *each: observed.append(each))
    listeners[0].set_transform("a", "who")
    listeners[0].set_transform_static("b", "who")
    assert observed == [("a", False), ("b", True)]
    assert kept == [("a", "who"), ("b", "who")]
