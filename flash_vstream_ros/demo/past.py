"""The past of a patrol at a given time: the visits and observations that count as seen, and facts about them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .world import ROOMS, Observation, Thing, Visit

SEEN_S = 8.0  # time in view after which something counts as seen [s]
GLIMPSE_S = 4.0  # an observation or visit may be in the image this long before it starts [s]


class Sight(NamedTuple):
    """Room in which something was last in view, and the end of that view."""

    room: str
    end: float  # [s]


class Change(NamedTuple):
    """Change of a room since the previous visit; without a thing, nothing changed."""

    room: str
    thing: Thing | None
    came: bool  # the thing appeared; otherwise it is gone
    before: float  # end of the previous visit [s]

    @property
    def answer(self) -> str:
        if not self.thing:
            return "nothing"
        return f"a {self.thing.name} appeared" if self.came else f"the {self.thing.name} is gone"


class Past(NamedTuple):
    """Everything that can be asked about at the time `now` [s], except what is just coming into view (`fresh`)."""

    now: float
    visits: tuple[Visit, ...]
    first: dict[Thing, Sight]
    last: dict[Thing, Sight]
    colours: dict[tuple[str, str], dict[str, float]]  # by room and kind: when each colour was last seen [s]
    person: Sight | None
    fresh: frozenset[Thing | str]  # things, rooms, "person"

    def age(self, end: float) -> float:
        return max(self.now - end, 0.0)

    @property
    def here(self) -> Visit | None:
        """The current visit, once it counts as seen."""
        ongoing = self.visits and self.visits[-1].end >= self.now and self.fresh.isdisjoint(ROOMS)
        return self.visits[-1] if ongoing else None

    @property
    def observation(self) -> Observation | None:
        """The current observation, once it counts as seen."""
        observations = self.here.observations if self.here else ()
        return observations[-1] if observations and observations[-1].end >= self.now else None


def seen_until(visits: Sequence[Visit], now: float) -> tuple[Visit, ...]:
    """Visits and observations that count as seen at `now` [s]."""
    known = now - SEEN_S
    past = visits[: bisect_right(visits, known, key=lambda visit: visit.start)]
    return tuple(visit if visit.end <= known else _cut(visit, known, now) for visit in past)


def seen_since(visits: Sequence[Visit], since: float) -> tuple[Visit, ...]:
    """Visits and observations that were in view after `since` [s] for long enough to count as seen."""
    least = since + SEEN_S
    return tuple(
        visit._replace(
            observations=tuple(observation for observation in visit.observations if observation.end >= least)
        )
        for visit in visits
        if visit.end >= least
    )


def past_of(visits: Sequence[Visit], now: float) -> Past:
    """The past of a patrol at `now` [s]."""
    seen = seen_until(visits, now)
    first: dict[Thing, Sight] = {}
    last: dict[Thing, Sight] = {}
    colours: dict[tuple[str, str], dict[str, float]] = {}
    person = None
    for visit in seen:
        for observation in visit.observations:
            if observation.person:
                person = Sight(visit.room, observation.end)
            if observation.thing:
                last[observation.thing] = sight = Sight(visit.room, observation.end)
                first.setdefault(observation.thing, sight)
                colours.setdefault((visit.room, observation.thing.kind), {})[observation.thing.colour] = observation.end
    return Past(now, seen, first, last, colours, person, _fresh(visits, len(seen), now))


def changes(past: Past) -> Iterator[Change]:
    """Changes between the last two visits of each room, if both are complete."""
    by_room: dict[str, list[Visit]] = {}
    for visit in past.visits:
        by_room.setdefault(visit.room, []).append(visit)
    for room, visits in by_room.items():
        if len(visits) > 1 and room not in past.fresh and all(len(visit.observations) == 2 for visit in visits[-2:]):
            before, after = (
                {observation.corner: observation.thing for observation in visit.observations} for visit in visits[-2:]
            )
            differ = [(before[corner], after.get(corner)) for corner in before if before[corner] != after.get(corner)]
            gone, came = differ[0] if differ else (None, None)
            if len(differ) < 2 and not (gone and came):
                yield Change(room, came or gone, came is not None, visits[-2].end)


def things_known(past: Past) -> dict[Thing, float]:
    """Things that were seen and are not just coming into view, with the time when each was last seen [s]."""
    return {thing: sight.end for thing, sight in past.last.items() if thing not in past.fresh}


def _cut(visit: Visit, known: float, now: float) -> Visit:
    observations = tuple(
        observation._replace(end=min(observation.end, now))
        for observation in visit.observations
        if observation.start <= known
    )
    return visit._replace(end=min(visit.end, now), observations=observations)


def _fresh(visits: Sequence[Visit], seen: int, now: float) -> frozenset[Thing | str]:
    """Things, rooms and "person" that are just coming into view; `seen` is the number of visits that count as seen."""
    fresh: set[Thing | str] = set()
    for visit in visits[max(seen - 1, 0) : seen + 2]:
        if now - SEEN_S < visit.start <= now + GLIMPSE_S:
            fresh.add(visit.room)
        for observation in visit.observations:
            if now - SEEN_S < observation.start <= now + GLIMPSE_S:
                fresh.update([observation.thing] if observation.thing else [], ["person"] if observation.person else [])
    return frozenset(fresh)
