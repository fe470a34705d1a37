"""The demo's patrol: the same every time, watchable, and true to what it says about itself."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from flash_vstream_ros.demo.view import Pose
from flash_vstream_ros.demo.world import COLOURS, DemoWorld, centre

SEEDS = [0, 1, 2, 3, 7, 11]


@pytest.fixture(scope="module", params=SEEDS)
def world(request: pytest.FixtureRequest) -> DemoWorld:
    return DemoWorld(request.param)


def moments(world: DemoWorld, step: float) -> np.ndarray:
    return np.arange(0.0, world.duration, step)


def test_the_same_seed_and_time_give_the_same_picture_in_any_order() -> None:
    first, again = DemoWorld(5), DemoWorld(5)
    pictures = {t: first.frame(t) for t in (40.0, 3.0, 77.7)}
    for t in (3.0, 40.0, 77.7):
        np.testing.assert_array_equal(again.frame(t), pictures[t])
    assert not np.array_equal(DemoWorld(6).frame(3.0), pictures[3.0])


def test_pictures_are_rgb_of_the_promised_size_and_never_black(world: DemoWorld) -> None:
    for t in moments(world, 3.1):
        picture = world.frame(t)
        assert picture.shape == (448, 448, 3)
        assert picture.dtype == np.uint8
        assert picture.flags["C_CONTIGUOUS"]
        assert (picture.max(2) < 8).mean() < 0.02, f"nothing drawn in places at {t:.1f} s"


def test_the_robot_moves_smoothly(world: DemoWorld) -> None:
    poses = [world.pose(t) for t in np.arange(0.0, 2 * world.duration, 0.05)]
    steps = np.hypot(np.diff([p.x for p in poses]), np.diff([p.y for p in poses])) / 0.05
    turns = np.diff(np.unwrap([p.yaw for p in poses])) / 0.05
    assert steps.max() < 1.5, "m/s"
    assert np.abs(turns).max() < 1.5, "rad/s"


def test_visits_are_the_rooms_where_the_robot_is(world: DemoWorld) -> None:
    visits = world.visits()
    assert visits[0].start == 0.0
    assert visits[-1].end == world.duration
    for visit in visits:
        for t in np.linspace(visit.start + 0.01, visit.end - 0.01, 9):
            assert world.room(t) == visit.room == world.truth(t).room
    assert [visit.end for visit in visits[:-1]] == [visit.start for visit in visits[1:]]
    assert {visit.room for visit in visits} == {"hallway", "kitchen", "living room", "office", "bedroom"}


def test_every_object_is_seen_in_its_room_and_the_late_one_only_later(world: DemoWorld) -> None:
    seen: dict[str, list[float]] = {}
    for t in moments(world, 0.25):
        for name in world.truth(t).things:
            seen.setdefault(name, []).append(t)
    assert set(seen) == {thing.name for thing in world.things}
    late = world.things[-1]
    first, second = (visit for visit in world.visits() if visit.room == late.room)
    assert first.end < late.since < second.start
    assert min(seen[late.name]) >= second.start


def test_a_seen_object_colours_the_middle_of_the_picture(world: DemoWorld) -> None:
    for thing in world.things:
        times = [t for t in moments(world, 0.1) if thing.name in world.truth(t).things]
        pose = world.pose
        t = min(times, key=lambda t: abs(bearing(pose(t), thing.x, thing.y)))
        middle = world.frame(t)[120:400, 150:300].reshape(-1, 3).astype(int)
        wanted = np.array(COLOURS[thing.colour])
        hues = cv2.cvtColor(np.array([middle], np.uint8), cv2.COLOR_RGB2HSV)[0].astype(int)
        hue = cv2.cvtColor(np.uint8([[wanted]]), cv2.COLOR_RGB2HSV)[0, 0].astype(int)
        near = (np.abs((hues[:, 0] - hue[0] + 90) % 180 - 90) < 7) & (hues[:, 1] > 110) & (hues[:, 2] > 60)
        assert near.mean() > 0.02, f"{thing.name} at {t:.1f} s"


def bearing(pose: Pose, x: float, y: float) -> float:
    return float((np.arctan2(y - pose.y, x - pose.x) - pose.yaw + np.pi) % (2 * np.pi) - np.pi)


def test_the_person_comes_once_and_is_seen(world: DemoWorld) -> None:
    present = [world.truth(t).person for t in np.arange(0.0, 2 * world.duration, 0.25)]
    there = [world.person(t) is not None for t in np.arange(0.0, 2 * world.duration, 0.25)]
    assert sum(present) >= 4, "for a second in all"
    assert np.abs(np.diff(np.array(there, int))).sum() <= 2, "one stretch of time"


def test_the_person_changes_the_picture() -> None:
    world = DemoWorld(0)
    t = next(t for t in moments(world, 0.25) if world.truth(t).person)
    shown = world.frame(t)
    world.person = lambda t: None  # type: ignore[method-assign]
    assert np.abs(shown.astype(int) - world.frame(t)).max() > 50


def test_questions_are_answered_by_the_truth(world: DemoWorld) -> None:
    answers = dict(world.questions())
    assert len(answers) >= 6
    rooms = [visit.room for visit in world.visits()]
    assert answers["Which rooms did you visit, in order?"] == ", ".join(rooms)
    assert answers["How many times did you visit the living room?"] == str(rooms.count("living room"))
    truths = [world.truth(t) for t in moments(world, 0.2)]
    ball = {truth.room for truth in truths if "red ball" in truth.things}
    assert answers["Did you see a red ball, and in which room?"] == f"yes, in the {ball.pop()}"
    person = {truth.room for truth in truths if truth.person}
    assert answers["Did a person appear, and in which room?"] == f"yes, in the {person.pop()}"
    late = answers["Which object appeared in the living room between two visits?"]
    assert late == f"a {world.things[-1].name}"
    absent = next(q for q, answer in answers.items() if answer == "no")
    names = {name for truth in truths for name in truth.things}
    assert absent.removeprefix("Did you see a ").rstrip("?") not in names


def test_seeds_differ_in_the_order_of_rooms_and_in_objects() -> None:
    worlds = [DemoWorld(seed) for seed in range(12)]
    assert len({tuple(world.rooms) for world in worlds}) >= 5
    assert len({tuple(thing.name for thing in world.things) for world in worlds}) == 12


def test_walls_tell_the_rooms_apart() -> None:
    world = DemoWorld(0)
    tones: dict[str, np.ndarray] = {}
    for visit in world.visits():
        t = (visit.start + visit.end) / 2
        tones.setdefault(visit.room, world.frame(t)[90:130].reshape(-1, 3).mean(0))
    rooms = list(tones)
    for i, one in enumerate(rooms):
        for other in rooms[:i]:
            assert np.abs(tones[one] - tones[other]).max() > 12, (one, other)


def test_rooms_lie_where_the_robot_drives() -> None:
    world = DemoWorld(3)
    pose = world.pose(0.0)
    np.testing.assert_allclose([pose.x, pose.y], centre(world.rooms[0]))


def test_frames_are_drawn_faster_than_any_camera_sends_them() -> None:
    world = DemoWorld(1)
    times = moments(world, 2.0)
    best = min(_seconds_for(world, times) for _ in range(3))
    assert len(times) / best > 50


def _seconds_for(world: DemoWorld, times: np.ndarray) -> float:
    start = time.process_time()
    for t in times:
        world.frame(t)
    return time.process_time() - start
