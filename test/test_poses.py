"""Poses: interpolated at a frame's stamp, refused or unknown with a reason, and never invented."""

from __future__ import annotations

import math

import pytest

from flash_vstream_ros.memory.pose import BadPose, Pose, UnknownPose, checked_pose, pose_from, pose_values, slerp
from flash_vstream_ros.memory.region import NOWHERE, Near, Region
from flash_vstream_ros.node.poses.pose_history import NotYet, PoseHistory
from flash_vstream_ros.node.poses.pose_messages import pose_message, pose_of
from flash_vstream_ros.ros.interfaces import PoseStamped, PoseWithCovarianceStamped, interface
from flash_vstream_ros.ros.transforms import MissingTransforms, Transforms

SECOND = 1_000_000_000
YAW_90 = (0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5))


def pose(x: float, seconds: float, orientation: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0), map_id: str = "") -> Pose:
    covariance = tuple(x for _ in range(36))
    return Pose((x, 0.0, 0.0), orientation, "map", map_id, round(seconds * SECOND), covariance)  # type: ignore[arg-type]


def history(*poses: Pose) -> tuple[PoseHistory, list[str]]:
    kept = PoseHistory()
    return kept, [sentence for each in poses if (sentence := kept.add(each))]


def test_a_pose_is_interpolated_between_two_with_slerp() -> None:
    kept, said = history(pose(0.0, 1.0), pose(1.0, 2.0, YAW_90))
    found = kept.at(round(1.25 * SECOND))
    assert isinstance(found, Pose)
    assert found.position == (0.25, 0.0, 0.0)
    assert found.covariance[0] == 0.25
    assert 2 * math.degrees(math.asin(found.orientation[2])) == pytest.approx(22.5)
    assert found.stamp_ns == round(1.25 * SECOND)
    assert not said


def test_slerp_takes_the_shorter_arc_and_stays_a_unit() -> None:
    negated = tuple(-part for part in YAW_90)
    for share in (0.0, 0.3, 1.0):
        one = slerp((0.0, 0.0, 0.0, 1.0), negated, share)  # type: ignore[arg-type]
        assert math.hypot(*one) == pytest.approx(1.0)
        assert 2 * math.degrees(math.atan2(abs(one[2]), abs(one[3]))) == pytest.approx(90 * share)


def test_a_pose_is_unknown_outside_and_between_poses_that_are_far_apart() -> None:
    kept, _ = history(pose(0.0, 1.0), pose(0.1, 3.0))
    assert kept.at(round(0.5 * SECOND)) == UnknownPose("before_first")
    assert kept.at(2 * SECOND) == UnknownPose("gap")
    assert kept.at(3 * SECOND) == pose(0.1, 3.0)
    for empty, reason in ((PoseHistory(), "no_message"), (kept, "late")):
        with pytest.raises(NotYet) as waiting:
            empty.at(4 * SECOND)
        assert waiting.value.reason == reason


def test_a_jump_or_another_map_is_reported_and_nothing_is_interpolated_across_it() -> None:
    kept, said = history(pose(0.0, 1.0), pose(9.0, 1.1), pose(9.0, 1.2, map_id="upstairs"))
    assert ["jumped by 9.0 m" in said[0], "map 'upstairs'" in said[1], len(said)] == [True, True, 2]
    assert kept.at(round(1.05 * SECOND)) == kept.at(round(1.15 * SECOND)) == UnknownPose("jump")
    assert kept.at(round(1.1 * SECOND)) == pose(9.0, 1.1)


def test_stamps_that_go_back_begin_a_new_history() -> None:
    kept, said = history(pose(0.0, 100.0), pose(0.0, 10.0))
    assert "went back by 90 s" in said[0]
    assert kept.at(10 * SECOND) == pose(0.0, 10.0)
    with pytest.raises(BadPose, match="not newer"):
        kept.add(pose(0.0, 9.9))


@pytest.mark.parametrize(
    ("position", "orientation", "covariance", "reason"),
    [
        ((math.nan, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), (0.0,) * 36, "not_finite"),
        ((0.0, 0.0, math.inf), (0.0, 0.0, 0.0, 1.0), (0.0,) * 36, "not_finite"),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), (0.0,) * 36, "bad_quaternion"),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), (math.nan,) * 36, "bad_covariance"),
    ],
)
def test_a_bad_pose_is_refused_with_a_reason(
    position: tuple[float, ...], orientation: tuple[float, ...], covariance: tuple[float, ...], reason: str
) -> None:
    with pytest.raises(BadPose) as refused:
        checked_pose(Pose(position, orientation, "map", covariance=covariance))  # type: ignore[arg-type]
    assert refused.value.reason == reason


@pytest.mark.parametrize("name", ["PoseStamped", "PoseWithCovarianceStamped", "Odometry"])
def test_each_message_type_gives_its_pose(name: str) -> None:
    if name == "Odometry":
        try:
            message = interface("nav_msgs/msg/Odometry")()
        except (ImportError, LookupError):
            pytest.skip("nav_msgs is not installed")
    else:
        message = PoseStamped() if name == "PoseStamped" else PoseWithCovarianceStamped()
    inner = message.pose if name == "PoseStamped" else message.pose.pose
    message.header.frame_id, message.header.stamp.sec = "/map", 7
    inner.position.x, inner.orientation.w = 2.5, 1.0
    if name != "PoseStamped":
        message.pose.covariance = [0.5] * 36
    found = pose_of(message, "map", "ground")
    assert (found.position[0], found.stamp_ns, found.map_id) == (2.5, 7 * SECOND, "ground")
    assert found.covariance[35] == (0.0 if name == "PoseStamped" else 0.5)
    back = pose_message(found)
    assert (back.header.frame_id, back.pose.pose.position.x, back.pose.covariance[0]) == (
        "map",
        2.5,
        found.covariance[0],
    )
    with pytest.raises(BadPose, match="fixed_frame is 'odom'"):
        pose_of(message, "odom", "")


def test_poses_survive_json_and_damage_is_refused() -> None:
    for each in (pose(1.0, 2.0, YAW_90, "upstairs"), UnknownPose("late")):
        assert pose_from(pose_values(each)) == each
    for damaged in ({}, {**pose_values(pose(1.0, 2.0)), "orientation": [0.0] * 4}):
        with pytest.raises((TypeError, ValueError, LookupError)):
            pose_from(damaged)


def test_a_circle_touches_what_may_and_covers_what_must_lie_inside() -> None:
    both = Region.union((Region.of(pose(0.0, 1.0)), Region.of(pose(4.0, 2.0))))
    assert both.spread_m(pose(1.0, 1.0)) == 3.0
    small, large = Near(0.0, 0.5, 1.0, "map"), Near(2.0, 0.0, 2.0, "map")
    assert [small.touches(both), small.covers(both), large.covers(both)] == [True, False, True]
    assert not large.touches(NOWHERE)
    assert not large.covers(Region.union((both, NOWHERE)))
    assert not large._replace(map_id="upstairs").touches(both)
    assert not large._replace(frame_id="odom").touches(both)


def test_a_region_of_many_maps_counts_as_anywhere() -> None:
    many = Region.union(Region.of(pose(0.0, 1.0, map_id=str(number))) for number in range(20))
    elsewhere = Near(50.0, 0.0, 1.0, "map", "19")
    assert elsewhere.touches(many)
    assert not elsewhere.covers(many)
    assert len(many.boxes) < 20


def test_missing_tf2_is_named_with_what_to_do() -> None:
    try:
        import tf2_ros  # noqa: F401
    except ImportError:
        with pytest.raises(
            MissingTransforms, match=r"install ros-.*tf2-ros-py and use rclpy, or set pose.source to topic"
        ):
            Transforms(None, lambda transform, is_static: None)
    else:
        pytest.skip("tf2_ros is installed")
