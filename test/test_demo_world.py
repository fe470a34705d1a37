"""The demo's patrol: deterministic, visible in its images, and equal to its ground truth."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise

import cv2
import numpy as np
import pytest

from flash_vstream_ros.demo.view import Pose
from flash_vstream_ros.demo.world import (
    COLOURS,
    HELD_OUT,
    LONGEST_OBSERVATION,
    ROOMS,
    SHORTEST_OBSERVATION_S,
    THINGS,
    TURN_S,
    Observation,
    Thing,
    Visit,
    World,
    centre,
    place,
)

SEEDS = [0, 1, 2, 3, 7, 11]


@pytest.fixture(scope="module", params=SEEDS)
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def moments(world: World, step: float) -> np.ndarray:
    return np.arange(0.0, world.duration, step)


def observations(world: World) -> list[tuple[Visit, Observation]]:
    return [(visit, observation) for visit in world.visits for observation in visit.observations]


def middle(observation: Observation) -> float:
    return (observation.start + observation.end) / 2


def test_the_same_seed_and_time_give_the_same_image_in_any_order() -> None:
    first, again = World(5), World(5)
    assert first.visits == again.visits
    images = {t: first.frame(t) for t in (40.0, 3.0, 377.7)}
    for t in (3.0, 40.0, 377.7):
        np.testing.assert_array_equal(again.frame(t), images[t])
    assert not np.array_equal(World(6).frame(3.0), images[3.0])


def test_images_are_rgb_of_the_promised_size_and_never_black(world: World) -> None:
    for t in moments(world, 7.1):
        image = world.frame(t)
        assert image.shape == (448, 448, 3)
        assert image.dtype == np.uint8
        assert image.flags["C_CONTIGUOUS"]
        assert (image.max(2) < 8).mean() < 0.02, f"nothing drawn in places at {t:.1f} s"


def test_the_robot_moves_smoothly(world: World) -> None:
    poses = [world.pose(t) for t in moments(world, 0.05)]
    steps = np.hypot(np.diff([p.x for p in poses]), np.diff([p.y for p in poses])) / 0.05
    turns = np.diff(np.unwrap([p.yaw for p in poses])) / 0.05
    assert steps.max() < 2.5, "m/s"
    assert np.abs(turns).max() < 2.5, "rad/s"


@pytest.mark.parametrize("minutes", [0.5, 8.0, 40.0])
def test_a_patrol_lasts_as_long_as_asked_and_observations_as_long_as_its_pace(minutes: float) -> None:
    world = World(4, minutes=minutes, pace_s=20.0)
    longest = LONGEST_OBSERVATION * 20.0
    assert 60 * minutes <= world.duration <= 60 * minutes + 2 * longest + 20
    lasts = [observation.end - observation.start for _, observation in observations(world)]
    assert min(lasts) > SHORTEST_OBSERVATION_S - 1e-9
    assert max(lasts) <= longest
    if minutes == 40.0:
        assert 15 < np.median(lasts) < 26


def test_visits_follow_each_other_without_gaps_in_the_rooms_where_the_robot_is(world: World) -> None:
    visits = world.visits
    assert visits[0].start == 0.0
    assert visits[-1].end == world.duration
    assert all(before.end == after.start and before.room != after.room for before, after in pairwise(visits))
    assert {visit.room for visit in visits} <= set(ROOMS)
    for visit in visits:
        for t in np.linspace(visit.start + 0.01, visit.end - 0.01, 9):
            assert world.room(t) == visit.room == world.truth(t).room
            assert np.abs(centre(visit.room) - (world.pose(t).x, world.pose(t).y)).max() < 2.6, "within its walls"
        first, second = visit.observations
        assert {first.corner, second.corner} == {0, 1}
        assert visit.start <= first.start < first.end < second.start < second.end <= visit.end


def test_the_truth_of_an_observation_is_what_is_in_the_image(world: World) -> None:
    for visit, observation in observations(world):
        for t in np.linspace(observation.start, observation.end, 5):
            truth = world.truth(t)
            assert truth.things == ((observation.thing.name,) if observation.thing else ()), (
                f"{visit.room} at {t:.1f} s"
            )
        assert world.truth(middle(observation)).person == observation.person


def test_a_person_is_in_view_for_nearly_the_whole_observation(world: World) -> None:
    for _, observation in observations(world):
        shown = np.mean([world.truth(t).person for t in np.linspace(observation.start, observation.end, 40)])
        assert shown > 0.9 if observation.person else shown == 0.0


def test_a_seen_thing_colours_the_middle_of_the_image(world: World) -> None:
    for visit, observation in observations(world):
        if observation.thing is None:
            continue
        t = middle(observation)
        assert abs(bearing(world.pose(t), *place(visit.room, observation.corner))) < 0.35
        assert share_of(observation.thing.colour, world.frame(t)) > 0.01, f"{observation.thing.name} at {t:.1f} s"


def test_a_thing_is_what_changes_the_image(world: World) -> None:
    visit, observation = next((visit, observation) for visit, observation in observations(world) if observation.thing)
    shown = world.frame(middle(observation)).astype(int)
    world._contents[world.visits.index(visit)][visit.room][observation.corner] = None
    try:
        gone = np.abs(shown - world.frame(middle(observation))).max(2) > 40
    finally:
        world._contents[world.visits.index(visit)][visit.room][observation.corner] = observation.thing
    assert gone.mean() > 0.01
    assert gone[:, [0, -1]].mean() < 0.05, "the rest of the room stays"


def share_of(colour: str, image: np.ndarray) -> float:
    """Share of a colour in the middle of the image."""
    hues = cv2.cvtColor(np.ascontiguousarray(image[120:400, 110:340]), cv2.COLOR_RGB2HSV).reshape(-1, 3).astype(int)
    hue = cv2.cvtColor(np.array([[COLOURS[colour]]], np.uint8), cv2.COLOR_RGB2HSV)[0, 0].astype(int)
    near = (np.abs((hues[:, 0] - hue[0] + 90) % 180 - 90) < 7) & (hues[:, 1] > 110) & (hues[:, 2] > 60)
    return float(near.mean())


def bearing(pose: Pose, x: float, y: float) -> float:
    return float((np.arctan2(y - pose.y, x - pose.x) - pose.yaw + np.pi) % (2 * np.pi) - np.pi)


def test_the_person_changes_the_image() -> None:
    world = World(0, minutes=30)
    t = next(middle(observation) for _, observation in observations(world) if observation.person)
    shown = world.frame(t)
    world.person = lambda t: None  # type: ignore[method-assign]
    assert np.abs(shown.astype(int) - world.frame(t)).max() > 50


def test_a_room_changes_only_while_the_robot_is_elsewhere(world: World) -> None:
    for visit in world.visits:
        state = {observation.thing.name for observation in visit.observations if observation.thing}
        moments_here = np.append(
            np.arange(visit.start, visit.end, 0.5), [middle(observation) for observation in visit.observations]
        )
        assert {name for t in moments_here for name in world.truth(t).things} == state


@pytest.mark.parametrize("seed", SEEDS)
def test_between_two_visits_of_a_room_at_most_one_thing_comes_or_goes(seed: int) -> None:
    last: dict[str, dict[int, Thing | None]] = {}
    outcomes: Counter[str] = Counter()
    for visit in World(seed, minutes=60).visits:
        state = {observation.corner: observation.thing for observation in visit.observations}
        before = last.get(visit.room, state)
        changed = [corner for corner in state if state[corner] != before[corner]]
        for corner in changed:
            assert None in (before[corner], state[corner]), "nothing is swapped"
        if len(changed) == 1:
            outcomes["gone" if before[changed[0]] else "came"] += 1
        elif visit.room in last:
            outcomes["two" if changed else "same"] += 1
        last[visit.room] = state
    assert min(outcomes["gone"], outcomes["came"], outcomes["same"]) > 0
    assert outcomes["two"] == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_there_is_one_of_each_thing_at_a_time(seed: int) -> None:
    for contents in World(seed, minutes=60)._contents:
        there = [thing for corners in contents.values() for thing in corners if thing]
        assert len(set(there)) == len(there) > 0
    assert len([thing for corners in World(seed)._contents[0].values() for thing in corners if thing]) == THINGS


def test_training_never_shows_what_is_held_out() -> None:
    def shown(held_out: bool) -> set[tuple[str, str, str]]:
        worlds = [World(seed, minutes=60, held_out=held_out) for seed in range(12)]
        # Through a door the next room can be seen, so what stands anywhere counts.
        return {
            (*thing, room)
            for world in worlds
            for contents in world._contents
            for room, corners in contents.items()
            for thing in corners
            if thing
        }

    assert not shown(held_out=False) & HELD_OUT
    assert len(shown(held_out=True) & HELD_OUT) > len(HELD_OUT) / 2
    assert {room for *_, room in HELD_OUT} == set(ROOMS)


def test_seeds_differ_in_the_order_of_rooms_and_in_things() -> None:
    worlds = [World(seed) for seed in range(12)]
    assert len({tuple(visit.room for visit in world.visits) for world in worlds}) >= 10
    assert len({tuple(observation.thing for _, observation in observations(world)) for world in worlds}) == 12


def test_walls_tell_the_rooms_apart() -> None:
    world = World(0)
    tones: dict[str, list[np.ndarray]] = {}
    for visit, observation in observations(world):
        tones.setdefault(visit.room, []).append(world.frame(middle(observation))[60:110].reshape(-1, 3).mean(0))
    means = {room: np.mean(tone, 0) for room, tone in tones.items()}
    # Compared by hue, since the brightness varies.
    hues = {room: mean / mean.mean() for room, mean in means.items()}
    assert set(hues) == set(ROOMS)
    for i, one in enumerate(ROOMS):
        for other in ROOMS[:i]:
            assert np.abs(hues[one] - hues[other]).max() > 0.05, (one, other)


def test_between_observations_the_robot_turns() -> None:
    world = World(3)
    for visit in world.visits:
        first, second = visit.observations
        assert second.start - first.end == pytest.approx(TURN_S)
        turned = world.pose(second.start).yaw - world.pose(first.end).yaw
        assert abs(np.cos(turned)) > 0.8
        assert np.cos(turned) < 0, "to the opposite corner"


def test_frames_are_drawn_faster_than_any_camera_sends_them() -> None:
    world = World(1, minutes=2)
    times = moments(world, 2.0)
    best = min(_seconds_for(world, times) for _ in range(3))
    assert len(times) / best > 50


def _seconds_for(world: World, times: np.ndarray) -> float:
    start = time.process_time()
    for t in times:
        world.frame(t)
    return time.process_time() - start
