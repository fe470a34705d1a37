"""Drills: dense training targets, that is, many short cues with their answers after one memory.

A question takes twenty tokens for one fact; a drill takes as many for a dozen facts. Drills train what questions need:
to find a thing, its room and its time, and to list visits in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from flash_vstream_ros.demo.answer_text import ago, number, scene
from flash_vstream_ros.demo.past import Past, Sight, changes, past_of, things_known
from flash_vstream_ros.demo.questions import never_seen
from flash_vstream_ros.demo.world import ROOMS, Thing, Visit

Drill = list[tuple[str, str]]  # (cue, answer); the first cue starts with the name of the drill
MAX_CUES = 10  # per drill
NEVER_SEEN_CUES = 3  # cues about things never seen


def drills(visits: Sequence[Visit], now: float, rng: np.random.Generator) -> list[Drill]:
    """Drills that are possible `now`, most of them hard to learn. They exclude what is just coming into view."""
    past = past_of(visits, now)
    made = ((name, make(past, rng)) for name, (make, count) in _DRILLS.items() for _ in range(count))
    return [[(name + drill[0][0], drill[0][1]), *drill[1:]] for name, drill in made if drill]


def _things(past: Past, rng: np.random.Generator, answer: Callable[[Sight], str], if_never: str) -> Drill:
    things = [*things_known(past)]
    seen = [things[i] for i in rng.permutation(len(things))[: MAX_CUES - NEVER_SEEN_CUES]]
    chosen = seen + never_seen(past, rng, NEVER_SEEN_CUES)
    shuffled = (chosen[i] for i in rng.permutation(len(chosen)))
    return [(f" {thing.name}", answer(past.last[thing]) if thing in past.last else if_never) for thing in shuffled]


def _where(past: Past, rng: np.random.Generator) -> Drill:
    return _things(past, rng, lambda sight: f"in the {sight.room}", "never seen")


def _when(past: Past, rng: np.random.Generator) -> Drill:
    return _things(past, rng, lambda sight: ago(past.age(sight.end)), "never seen")


def _seen(past: Past, rng: np.random.Generator) -> Drill:
    return _things(past, rng, lambda _: "yes", "no")


def _first(past: Past, rng: np.random.Generator) -> Drill:
    things = [thing for thing in things_known(past) if thing in past.first]
    chosen = (things[i] for i in rng.permutation(len(things))[:MAX_CUES])
    return [(f" {thing.name}", f"in the {past.first[thing].room}") for thing in chosen]


def _colours(past: Past, rng: np.random.Generator) -> Drill:
    fresh = {thing.kind for thing in past.fresh if isinstance(thing, Thing)}
    single = [(*key, *colours) for key, colours in past.colours.items() if len(colours) == 1 and key[1] not in fresh]
    chosen = (single[i] for i in rng.permutation(len(single))[:MAX_CUES])
    return [(f" {kind} in the {room}", f" {colour}") for room, kind, colour in chosen]


def _rooms(past: Past, rng: np.random.Generator) -> Drill:
    """For each room: the number of visits, the time of the last one, and the scenes of the last two, newest first."""
    drill: Drill = []
    for room in (ROOMS[i] for i in rng.permutation(len(ROOMS))):
        visits = [visit for visit in past.visits if visit.room == room]
        if room in past.fresh or not visits:
            continue
        drill += [(f" {room}", number(len(visits), "time")), (" ", ago(past.age(visits[-1].end)))]
        drill += [(" before", _scenes(visit)) for visit in visits[-1:-3:-1]]
    return drill


def _changes(past: Past, rng: np.random.Generator) -> Drill:
    changed = [*changes(past)]
    return [(f" {changed[i].room} ", changed[i].answer) for i in rng.permutation(len(changed))]


def _came(past: Past, rng: np.random.Generator) -> Drill:
    """The room from which the robot last entered each room."""
    pairs = zip(past.visits, past.visits[1:], strict=False)
    came = {after.room: before.room for before, after in pairs if after.room not in past.fresh}
    rooms = [*came]
    return [(f" {rooms[i]} ", f"the {came[rooms[i]]}") for i in rng.permutation(len(rooms))]


def _forwards(past: Past, rng: np.random.Generator) -> Drill:
    return [(".", f" the {visit.room}{_scenes(visit)}") for visit in past.visits[:MAX_CUES]]


def _backwards(past: Past, rng: np.random.Generator) -> Drill:
    known_visits = past.visits if past.here else past.visits[:-1]
    return [(" before", f" the {visit.room}{_scenes(visit)}") for visit in known_visits[: -MAX_CUES - 1 : -1]]


def _scenes(visit: Visit) -> str:
    return "".join(f", {scene(observation)}" for observation in visit.observations)


_DRILLS = {
    "where": (_where, 1),
    "when": (_when, 3),
    "seen": (_seen, 1),
    "first": (_first, 1),
    "colour": (_colours, 1),
    "visit": (_rooms, 2),
    "change": (_changes, 3),
    "before": (_came, 1),
    "patrol": (_forwards, 1),
    "last": (_backwards, 1),
}
