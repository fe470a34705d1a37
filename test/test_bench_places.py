"""The benchmark of places: noise, late and missing poses, and what counts as near."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flash_vstream_ros.bench.places import NEAR_M, NOISE_M, Found, figures, measured_pose, patrol, show, viewpoints
from flash_vstream_ros.client import best_place
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.memory.pose import Pose
from flash_vstream_ros.models.household_settings import LOADING
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.names import HOUSEHOLD
from flash_vstream_ros.ros.interfaces import MemoryEntry


def test_a_measured_pose_is_near_the_true_one_or_unknown_with_a_reason() -> None:
    world, rng = World(3, 12.0), np.random.default_rng(0)
    poses = [(t, measured_pose(world, t, rng)) for t in np.arange(1.0, 700.0, 2.0).tolist()]
    known = [(t, pose) for t, pose in poses if isinstance(pose, Pose)]
    assert len(poses) > len(known) > 0.8 * len(poses)
    assert {pose.reason for _, pose in poses if not isinstance(pose, Pose)} <= {"late", "gap", "no_message"}
    for t, pose in known:
        x, y, _, yaw = world.pose(t)
        assert math.hypot(pose.position[0] - x, pose.position[1] - y) < 6 * NOISE_M
        turned = 2 * math.atan2(pose.orientation[2], pose.orientation[3]) - yaw
        assert abs((turned + math.pi) % math.tau - math.pi) < 0.2


def test_the_household_model_says_from_where_a_thing_can_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    found = patrol(load_model(HOUSEHOLD, device="cpu", **LOADING), 520_000, 4.0, (15.0, 15.0))
    result = figures(found)
    assert result["searches"] >= 6
    assert result["near_of_known"] >= 0.8
    assert result["near"] > result["newest_near"]
    assert result["largest_error_m"] < 6 * NOISE_M
    show({"streams": 1, "minutes": 4.0, **result})
    assert f"within {NEAR_M:g} m" in capsys.readouterr().out


def test_an_unknown_pose_is_counted_and_never_near() -> None:
    found = [Found("", True, False, 0.1), Found("late", False, True, 0.0)]
    assert figures(found) == {
        "searches": 2,
        "known": 1,
        "unknown": {"late": 1},
        "near": 0.5,
        "near_of_known": 1.0,
        "newest_near": 0.5,
        "largest_error_m": 0.1,
    }


@pytest.mark.parametrize(
    ("moments", "best"),
    [
        ([(0.4, True), (0.3, True)], 0),
        ([(0.4, False), (0.3, True), (0.3, True)], 1),
        ([(0.4, False), (0.1, True)], 0),  # too little relevance
        ([(0.4, False)], 0),
    ],
)
def test_the_best_place_is_of_a_relevant_moment_with_a_pose(moments: list[tuple[float, bool]], best: int) -> None:
    messages = [MemoryEntry(relevance=relevance, pose_known=known) for relevance, known in moments]
    assert best_place(messages) is messages[best]


def test_a_thing_is_visible_from_where_the_robot_saw_it() -> None:
    world = World(3, 12.0)
    seen = {name for t in np.arange(0.0, 300.0, 1.0) for name in world.truth(t).things}
    assert seen
    assert all(any(True for _ in viewpoints(world, name, 300.0)) for name in seen)
    assert not list(viewpoints(world, "pink piano", 300.0))
