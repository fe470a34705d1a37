"""Questions about a patrol, with the true answers at a given time.

A model without images should not do better than chance. So half of the "did you see" questions are about unseen things
similar to seen ones, and questions cover the whole past, not mostly the last minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from flash_vstream_ros.models.minutes import JUST_NOW_S

from .answer_text import ago, number, patrol_summary, scene
from .past import Change, Past, changes, past_of, things_known
from .scoring import Names, Question
from .wordings import KIND_OF, WORDINGS
from .world import COLOURS, HELD_OUT, KINDS, ROOMS, SHORTEST_OBSERVATION_S, Thing, Visit

NEVER_SEEN_SHARE = 0.2  # share of "where" and "when" questions about things never seen
MAX_PATROL_THINGS = 6  # in a summary of the whole patrol
EVERY_THING = tuple(Thing(colour, kind) for colour in COLOURS for kind in KINDS)

T = TypeVar("T")


def questions(visits: Sequence[Visit], now: float, rng: np.random.Generator) -> list[Question]:
    """About twenty questions of all kinds that can be answered `now`, half of them about places and times."""
    past = past_of(visits, now)
    makers = (_now, _rooms, _counts, _seen, _where, _colour, _when, _person, _change, _patrol)
    asked = [question for make in makers for question in make(past, rng)]
    # In random order, so that no answer follows from the previous one.
    return [asked[index] for index in rng.permutation(len(asked))]


def hard_questions(visits: Sequence[Visit], now: float, rng: np.random.Generator) -> list[Question]:
    """Questions of the kinds that are hardest to learn: counts, and changes between visits."""
    past = past_of(visits, now)
    return [*_counts(past, rng), *_change(past, rng)]


def interval_questions(past: Past, rng: np.random.Generator) -> list[Question]:
    """Questions about the past of an interval whose answers do not depend on when they are asked."""
    makers = (_rooms, _seen, _where, _colour, _person)
    return [question for make in makers for question in make(past, rng) if question.minutes is None]


def seen_once_questions(past: Past, rng: np.random.Generator) -> list[Question]:
    """Was a thing ever seen? About all that was in view once for the shortest duration only, and all never seen."""
    sights: dict[Thing, list[float]] = {}
    for visit in past.visits:
        for observation in visit.observations:
            if observation.thing:
                sights.setdefault(observation.thing, []).append(observation.end - observation.start)
    once = [
        thing
        for thing, durations in sights.items()
        if len(durations) == 1 and durations[0] < SHORTEST_OBSERVATION_S + 0.5 and thing not in past.fresh
    ]
    never = never_seen(past, rng, len(EVERY_THING))
    return [
        *(_ask("seen", rng, "yes", past.age(past.last[thing].end), thing) for thing in once),
        *(_ask("seen", rng, "no", None, thing) for thing in never),
    ]


def _ask(
    form: str,
    rng: np.random.Generator,
    answer: str,
    age_s: float | None,
    thing: Thing | None = None,
    room: str = "",
    evidence_room: str = "",
    minutes: float | None = None,
) -> Question:
    """A question in a random wording. `room` is the room in the question, `evidence_room` the room of the evidence."""
    named = Names(room, thing.name if thing else "", thing.kind if thing else "")
    text = _any(WORDINGS[form], rng).format(**named._asdict())
    held_out = thing is not None and (*thing, evidence_room) in HELD_OUT
    return Question(KIND_OF.get(form, form), text, answer, age_s, held_out, minutes, form, named)


def _any(options: Sequence[T], rng: np.random.Generator) -> T:
    return options[int(rng.random() * len(options))]


def _nearest(ends: dict[T, float], moment: float) -> T:
    return min(ends, key=lambda one: abs(ends[one] - moment))


def _spread(ends: dict[T, float], past: Past, rng: np.random.Generator, count: int) -> list[T]:
    """Choose up to `count` keys of `ends`, half of them nearest to a random time, since most ends are recent."""
    remaining = dict(ends)
    chosen: list[T] = []
    while remaining and len(chosen) < count:
        one = _any(list(remaining), rng) if rng.random() < 0.5 else _nearest(remaining, rng.random() * past.now)
        chosen.append(one)
        del remaining[one]
    return chosen


def never_seen(past: Past, rng: np.random.Generator, count: int) -> list[Thing]:
    """Things never seen; the colour and the kind of most were each seen, but not together."""
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
            yield _ask("scene", rng, view, 0.0, thing, evidence_room=room)
            yield _ask("describe", rng, f"I am in the {room} and see {view}.", 0.0, thing, evidence_room=room)


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
    if never and (not ends or rng.random() < NEVER_SEEN_SHARE):
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
        yield _ask("seen", rng, "yes", past.age(sight.end), thing, evidence_room=sight.room)
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
        yield _ask(form, rng, f"in the {sight.room}", past.age(sight.end), thing, evidence_room=sight.room)


def _when(past: Past, rng: np.random.Generator) -> Iterator[Question]:
    for thing in _seen_or_not(past, rng, 2):
        sight = past.last.get(thing)
        if sight:
            age = past.age(sight.end)
            yield _ask("when", rng, ago(age), age, thing, evidence_room=sight.room, minutes=age / 60)
        else:
            yield _ask("when", rng, "never seen", None, thing)


def _seen_or_not(past: Past, rng: np.random.Generator, count: int) -> list[Thing]:
    never = sum(rng.random() < NEVER_SEEN_SHARE for _ in range(count))
    return _spread(things_known(past), past, rng, count - never) + never_seen(past, rng, never)


def _colour(past: Past, rng: np.random.Generator) -> Iterator[Question]:
    fresh = {thing.kind for thing in past.fresh if isinstance(thing, Thing)}
    single = {
        (room, Thing(colour, kind)): end
        for (room, kind), colours in past.colours.items()
        if len(colours) == 1 and kind not in fresh
        for colour, end in colours.items()
    }
    for room, thing in _spread(single, past, rng, 2):
        yield _ask("colour", rng, thing.colour, past.age(single[room, thing]), thing, room=room, evidence_room=room)


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
    """Questions about at most two rooms; the answers unchanged, appeared and gone are equally frequent."""
    outcomes: dict[str, dict[Change, float]] = {}
    for change in changes(past):
        case = "same" if not change.thing else "came" if change.came else "gone"
        outcomes.setdefault(case, {})[change] = change.before
    for case in sorted(outcomes, key=lambda _: rng.random())[:2]:
        for change in _spread(outcomes[case], past, rng, 1):
            age = past.age(change.before)
            yield _ask("change", rng, change.answer, age, change.thing, room=change.room, evidence_room=change.room)


def _patrol(past: Past, rng: np.random.Generator) -> Iterator[Question]:
    seen = {*past.last, *(visit.room for visit in past.visits), *(["person"] if past.person else [])}
    if len(past.last) <= MAX_PATROL_THINGS and past.fresh <= seen:
        question = _ask("patrol", rng, patrol_summary(past.visits, 0.0, past.now), None)
        held_out = any((*thing, sight.room) in HELD_OUT for thing, sight in past.last.items())
        yield question._replace(held_out=held_out)
