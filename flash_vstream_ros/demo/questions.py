"""Questions about a patrol, with the true answers at a moment.

A model without images should do no better than chance: half of the "did you see" answers are no, about things similar
to those seen, and questions cover all of the past rather than the last minute.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from flash_vstream_ros.models.minutes import JUST_NOW_S, round_minutes

from .scoring import Names, Question, facts, precision_recall, right
from .wordings import KIND_OF, WORDINGS
from .world import COLOURS, HELD_OUT, KINDS, ROOMS, Observation, Thing, Visit

__all__ = ["WORDINGS", "Question", "facts", "history", "lately", "patrol", "precision_recall", "questions", "right"]

SEEN_S = 8.0  # time in view after which something counts as seen [s]
GLIMPSE_S = 4.0  # time before an observation or visit starts in which it may be in the image already [s]
NEVER = 0.2  # share of "where" and "when" questions about things never seen
LONGEST_PATROL = 6  # most things in a description of the whole patrol
EVERY_THING = tuple(Thing(colour, kind) for colour in COLOURS for kind in KINDS)


class Sight(NamedTuple):
    """Where something was seen, and until when."""

    room: str
    end: float  # [s]


class Change(NamedTuple):
    """Change of a room since the visit before; no thing: no change."""

    room: str
    thing: Thing | None
    came: bool
    before: float  # end of the visit before [s]

    @property
    def answer(self) -> str:
        if not self.thing:
            return "nothing"
        return f"a {self.thing.name} appeared" if self.came else f"the {self.thing.name} is gone"


class Past(NamedTuple):
    """Everything that can be asked about at a moment, except what is in `fresh`, which is just coming into view."""

    now: float
    visits: tuple[Visit, ...]
    first: dict[Thing, Sight]
    last: dict[Thing, Sight]
    stood: dict[tuple[str, str], dict[str, float]]  # (room, kind): colour: last seen [s]
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


T = TypeVar("T")


def history(visits: Sequence[Visit], now: float) -> tuple[Visit, ...]:
    """Visits and observations that count as seen at `now`."""
    known = now - SEEN_S
    past = visits[: bisect_right(visits, known, key=lambda visit: visit.start)]
    return tuple(visit if visit.end <= known else _cut(visit, known, now) for visit in past)


def lately(visits: Sequence[Visit], since: float) -> tuple[Visit, ...]:
    """Visits and observations that were in view after `since` [s] for long enough to count as seen."""
    least = since + SEEN_S
    return tuple(
        visit._replace(
            observations=tuple(observation for observation in visit.observations if observation.end >= least)
        )
        for visit in visits
        if visit.end >= least
    )


def questions(visits: Sequence[Visit], now: float, rng: np.random.Generator) -> list[Question]:
    """About twenty questions of all kinds that are possible `now`, half of them about places and times."""
    past = past_of(visits, now)
    makers = (_now, _rooms, _counts, _seen, _where, _colour, _when, _person, _change, _patrol)
    asked = [question for make in makers for question in make(past, rng)]
    # In random order, so that no answer follows from the one before.
    return [asked[index] for index in rng.permutation(len(asked))]


def patrol(visits: Sequence[Visit], since: float, until: float) -> str:
    """Summary of what came into view between two moments [s]: rooms and things in order of first sight."""
    recent = lately(history(visits, until), since)
    observations = [observation for visit in recent for observation in visit.observations]
    things = dict.fromkeys(f"a {observation.thing.name}" for observation in observations if observation.thing)
    saw = [*things, *(["a person"] if any(observation.person for observation in observations) else [])]
    rooms = [f"the {room}" for room in dict.fromkeys(visit.room for visit in recent)]
    was = f"I was in {_listed(rooms)}. " if rooms else ""
    return f"{was}I saw {_listed(saw)}."


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


def scene(observation: Observation) -> str:
    """Describe an observation: "a red ball and a person", "nothing"."""
    return _listed(
        [*([f"a {observation.thing.name}"] if observation.thing else []), *(["a person"] if observation.person else [])]
    )


def ago(seconds: float) -> str:
    """A duration as "7 minutes ago", rounded to MINUTES; "just now" within the first minute."""
    minutes = round_minutes(seconds)
    return f"{number(minutes, 'minute')} ago" if minutes else "just now"


def _cut(visit: Visit, known: float, now: float) -> Visit:
    observations = tuple(
        observation._replace(end=min(observation.end, now))
        for observation in visit.observations
        if observation.start <= known
    )
    return visit._replace(end=min(visit.end, now), observations=observations)


def past_of(visits: Sequence[Visit], now: float) -> Past:
    seen = history(visits, now)
    first: dict[Thing, Sight] = {}
    last: dict[Thing, Sight] = {}
    stood: dict[tuple[str, str], dict[str, float]] = {}
    person = None
    for visit in seen:
        for observation in visit.observations:
            if observation.person:
                person = Sight(visit.room, observation.end)
            if observation.thing:
                last[observation.thing] = sight = Sight(visit.room, observation.end)
                first.setdefault(observation.thing, sight)
                stood.setdefault((visit.room, observation.thing.kind), {})[observation.thing.colour] = observation.end
    return Past(now, seen, first, last, stood, person, _fresh(visits, len(seen), now))


def _fresh(visits: Sequence[Visit], seen: int, now: float) -> frozenset[Thing | str]:
    """Things, rooms and persons coming into view about now; `seen` is the number of visits that count as seen."""
    fresh: set[Thing | str] = set()
    for visit in visits[max(seen - 1, 0) : seen + 2]:
        if now - SEEN_S < visit.start <= now + GLIMPSE_S:
            fresh.add(visit.room)
        for observation in visit.observations:
            if now - SEEN_S < observation.start <= now + GLIMPSE_S:
                fresh.update([observation.thing] if observation.thing else [], ["person"] if observation.person else [])
    return frozenset(fresh)


def _ask(
    form: str,
    rng: np.random.Generator,
    answer: str,
    age_s: float | None,
    thing: Thing | None = None,
    room: str = "",
    stood_in: str = "",
    minutes: float | None = None,
) -> Question:
    """A question in a random wording; `stood_in` is the room of the evidence, `room` the one in the question."""
    named = Names(room, thing.name if thing else "", thing.kind if thing else "")
    text = _any(WORDINGS[form], rng).format(**named._asdict())
    held_out = thing is not None and (*thing, stood_in) in HELD_OUT
    return Question(KIND_OF.get(form, form), text, answer, age_s, held_out, minutes, form, named)


def _any(options: Sequence[T], rng: np.random.Generator) -> T:
    return options[int(rng.random() * len(options))]


def _nearest(ends: dict[T, float], moment: float) -> T:
    return min(ends, key=lambda one: abs(ends[one] - moment))


def _spread(ends: dict[T, float], past: Past, rng: np.random.Generator, count: int) -> list[T]:
    """Choose up to `count`, half of them nearest to a random moment, since uniform choices are mostly recent."""
    left = dict(ends)
    chosen: list[T] = []
    while left and len(chosen) < count:
        one = _any(list(left), rng) if rng.random() < 0.5 else _nearest(left, rng.random() * past.now)
        chosen.append(one)
        del left[one]
    return chosen


def things_known(past: Past) -> dict[Thing, float]:
    return {thing: sight.end for thing, sight in past.last.items() if thing not in past.fresh}


def never_seen(past: Past, rng: np.random.Generator, count: int) -> list[Thing]:
    """Things never seen, mostly of a colour and a kind that were each seen, but never together."""
    unseen = [thing for thing in EVERY_THING if thing not in past.last and thing not in past.fresh]
    colours, kinds = {thing.colour for thing in past.last}, {thing.kind for thing in past.last}
    chosen: list[Thing] = []
    while unseen and len(chosen) < count:
        alike = 2 if rng.random() < 0.6 else 1
        near = [thing for thing in unseen if (thing.colour in colours) + (thing.kind in kinds) >= alike]
        chosen.append(_any(near if near and rng.random() < 0.85 else unseen, rng))
        unseen.remove(chosen[-1])
    return chosen


def _now(past: Past, rng: np.random.Generator) -> Iterator[Question]:
    if past.here:
        room = past.here.room
        yield _ask("room_now", rng, f"the {room}", 0.0)
        if past.observation:
            thing, view = past.observation.thing, scene(past.observation)
            yield _ask("scene", rng, view, 0.0, thing, stood_in=room)
            yield _ask("describe", rng, f"I am in the {room} and see {view}.", 0.0, thing, stood_in=room)


def _rooms(past: Past, rng: np.random.Generator) -> Iterator[Question]:
    if not past.visits:
        return
    yield _ask("room_first", rng, f"the {past.visits[0].room}", past.age(past.visits[0].end))
    came = {after.room: before for before, after in zip(past.visits, past.visits[1:], strict=False)}
    before = past.visits[-2] if len(past.visits) > 1 else None
    if before and past.here and rng.random() < 0.4:
        yield _ask("room_before_this", rng, f"the {before.room}", past.age(before.end))
        return
    ends = {room: visit.end for room, visit in came.items() if room not in past.fresh}
    for room in _spread(ends, past, rng, 1):
        yield _ask("room_before", rng, f"the {came[room].room}", past.age(ends[room]), room=room)


def _counts(past: Past, rng: np.random.Generator) -> Iterator[Question]:
    ends = {visit.room: visit.end for visit in past.visits if visit.room not in past.fresh}
    visited = {visit.room for visit in past.visits}
    never = [room for room in ROOMS if room not in visited and room not in past.fresh]
    if never and (not ends or rng.random() < NEVER):
        yield _ask("when_room", rng, "never visited", None, room=_any(never, rng))
    else:
        away = {room: end for room, end in ends.items() if past.age(end) >= JUST_NOW_S}
        for room in _spread(away if away and rng.random() < 0.6 else ends, past, rng, 1):
            age = past.age(ends[room])
            yield _ask("when_room", rng, ago(age), age, room=room, minutes=age / 60)
    for room in _spread({**dict.fromkeys(never, 0.0), **ends}, past, rng, 1):
        stays = [visit for visit in past.visits if visit.room == room]
        oldest = past.age(stays[0].end) if stays else None
        yield _ask("count", rng, number(len(stays), "time"), oldest, room=room)


def _seen(past: Past, rng: np.random.Generator) -> Iterator[Question]:
    """Pairs of questions, one answered yes and one no."""
    present, absent = _spread(things_known(past), past, rng, 2), never_seen(past, rng, 2)
    for thing, other in zip(present, absent, strict=False):
        sight = past.last[thing]
        yield _ask("seen", rng, "yes", past.age(sight.end), thing, stood_in=sight.room)
        yield _ask("seen", rng, "no", None, other)


def _where(past: Past, rng: np.random.Generator) -> Iterator[Question]:
    for thing in _seen_or_not(past, rng, 4):
        last = past.last.get(thing)
        if not last:
            yield _ask("where_first" if rng.random() < 0.2 else "where", rng, "never seen", None, thing)
            continue
        first = past.first[thing]
        form = "where_first" if rng.random() < (0.5 if first.room != last.room else 0.15) else "where"
        sight = first if form == "where_first" else last
        yield _ask(form, rng, f"in the {sight.room}", past.age(sight.end), thing, stood_in=sight.room)


def _when(past: Past, rng: np.random.Generator) -> Iterator[Question]:
    for thing in _seen_or_not(past, rng, 2):
        sight = past.last.get(thing)
        if sight:
            age = past.age(sight.end)
            yield _ask("when", rng, ago(age), age, thing, stood_in=sight.room, minutes=age / 60)
        else:
            yield _ask("when", rng, "never seen", None, thing)


def _seen_or_not(past: Past, rng: np.random.Generator, count: int) -> list[Thing]:
    never = sum(rng.random() < NEVER for _ in range(count))
    return _spread(things_known(past), past, rng, count - never) + never_seen(past, rng, never)


def _colour(past: Past, rng: np.random.Generator) -> Iterator[Question]:
    fresh = {thing.kind for thing in past.fresh if isinstance(thing, Thing)}
    single = {
        (room, Thing(colour, kind)): end
        for (room, kind), colours in past.stood.items()
        if len(colours) == 1 and kind not in fresh
        for colour, end in colours.items()
    }
    for room, thing in _spread(single, past, rng, 2):
        yield _ask("colour", rng, thing.colour, past.age(single[room, thing]), thing, room=room, stood_in=room)


def _person(past: Past, rng: np.random.Generator) -> Iterator[Question]:
    if "person" in past.fresh:
        return
    if not past.person:
        form, answer = ("person", "no") if rng.random() < 0.8 else ("person_where", "never seen")
        yield _ask(form, rng, answer, None)
        return
    age = past.age(past.person.end)
    # Most of a patrol follows the first person, so "yes" would be too frequent.
    if rng.random() < 0.35:
        yield _ask("person", rng, "yes", age)
    else:
        yield _ask("person_where", rng, f"in the {past.person.room}", age)


def _change(past: Past, rng: np.random.Generator) -> Iterator[Question]:
    """About two rooms at most; unchanged, appeared and gone are equally frequent."""
    outcomes: dict[str, dict[Change, float]] = {}
    for change in changes(past):
        case = "same" if not change.thing else "came" if change.came else "gone"
        outcomes.setdefault(case, {})[change] = change.before
    for case in sorted(outcomes, key=lambda _: rng.random())[:2]:
        for change in _spread(outcomes[case], past, rng, 1):
            age = past.age(change.before)
            yield _ask("change", rng, change.answer, age, change.thing, room=change.room, stood_in=change.room)


def _patrol(past: Past, rng: np.random.Generator) -> Iterator[Question]:
    seen = {*past.last, *(visit.room for visit in past.visits), *(["person"] if past.person else [])}
    if len(past.last) <= LONGEST_PATROL and past.fresh <= seen:
        question = _ask("patrol", rng, patrol(past.visits, 0.0, past.now), None)
        held_out = any((*thing, sight.room) in HELD_OUT for thing, sight in past.last.items())
        yield question._replace(held_out=held_out)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]])) or "nothing"


def number(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
