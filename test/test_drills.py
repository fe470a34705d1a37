"""Every answer of a drill agrees with the visits of its patrol."""

from __future__ import annotations

import numpy as np
import pytest

from flash_vstream_ros.demo.world import World
from flash_vstream_ros.training.drills import drills

SEEDS = range(8)


def drilled(seed: int, name: str) -> tuple[World, dict[str, str]]:
    """The patrol, and the drill of that name as cue: answer."""
    world = World(seed, 6.0, 10.0)
    drill = next(
        d for d in drills(world.visits, world.duration, np.random.default_rng(seed)) if d[0][0].startswith(name)
    )
    return world, {cue.removeprefix(name).strip(): answer.strip() for cue, answer in drill}


def settled(world: World) -> list[tuple[str, str, float]]:
    """(thing, room, end) of every observation but those that have only just begun."""
    observations = [
        (observation, visit.room) for visit in world.visits for observation in visit.observations if observation.thing
    ]
    return [
        (observation.thing.name, room, observation.end)
        for observation, room in observations
        if observation.thing and observation.start < world.duration - 8
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_where_and_when_are_those_of_the_last_look(seed: int) -> None:
    world, where = drilled(seed, "where")
    last = {thing: room for thing, room, _ in settled(world)}
    assert any(thing in last for thing in where)
    assert any(thing not in last for thing in where)
    assert where == {thing: f"in the {last[thing]}" if thing in last else "never seen" for thing in where}
    ends = {thing: end for thing, _, end in settled(world)}
    for thing, answer in drilled(seed, "when")[1].items():
        if thing not in ends:
            assert answer == "never seen"
        elif world.duration - ends[thing] < 60:
            assert answer == "just now"
        else:
            assert abs(float(answer.split()[0]) - (world.duration - ends[thing]) / 60) <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_first_and_seen_look_at_all_of_the_patrol(seed: int) -> None:
    world, first = drilled(seed, "first")
    rooms = {thing: room for thing, room, _ in reversed(settled(world))}
    assert first == {thing: f"in the {rooms[thing]}" for thing in first}
    seen = drilled(seed, "seen")[1]
    assert seen == {thing: "yes" if thing in rooms else "no" for thing in seen}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_colour_is_asked_for_where_it_is_the_only_one(seed: int) -> None:
    world, colours = drilled(seed, "colour")
    for cue, colour in colours.items():
        kind, room = cue.split(" in the ")
        assert {thing for thing, at, _ in settled(world) if at == room and thing.endswith(kind)} == {f"{colour} {kind}"}


def test_patrol_drills_list_visits_in_order_from_both_ends() -> None:
    world = World(3, 8.0, 5.0)
    now = next(visit.start + 9.0 for visit in world.visits if visit.end > 400.0)
    made = drills(world.visits, now, np.random.default_rng(0))
    rooms = [visit.room for visit in world.visits if visit.start < now]

    def named(name: str) -> list[str]:
        drill = next(drill for drill in made if drill[0][0].startswith(name))
        return [answer.split(",")[0].removeprefix(" the ") for _, answer in drill]

    assert len(rooms) > 10
    assert named("patrol") == rooms[:10]
    assert named("last") == rooms[::-1][:10]
