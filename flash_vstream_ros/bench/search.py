"""Checks with the simulator if a search finds moments that show what its text describes.

Patrols of the demo's robot are rendered and encoded as in `bench answers`. Searches run through the engine's own queue,
prefix cache and second look.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from math import comb
from multiprocessing import get_context
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from flash_vstream_ros.demo.past import Past, past_of, things_known
from flash_vstream_ros.demo.questions import EVERY_THING
from flash_vstream_ros.demo.world import Truth, World
from flash_vstream_ros.engine.answering.question import Question
from flash_vstream_ros.engine.answering.search import SEARCH_PROMPT
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.memory import FlashMemory
from flash_vstream_ros.memory.config import PUBLISHED
from flash_vstream_ros.memory.slot import MemoryEntry
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.household_settings import MEMORY, SECOND_LOOK_SHARE
from flash_vstream_ros.models.names import HOUSEHOLD
from flash_vstream_ros.progress import tracked

from .patrol_evaluation import PACE_S, loaded, slots_by_moment
from .prefix_cache import Asker

FIRST_SEED = 800_000
BEST = 3  # number of moments, one of which has to show what was searched for
MEMORIES = {"flash": MEMORY, PUBLISHED: replace(MEMORY, retention=PUBLISHED)}
THINGS, THINGS_IN_ROOMS, ROOMS, KINDS, IMAGES = 4, 2, 2, 1, 2  # searches of each kind at a moment


class Search(NamedTuple):
    """A text or an image to search for, and what a frame must show: one of `things`, the `room`, a person."""

    kind: str
    text: str
    things: frozenset[str] = frozenset()
    room: str = ""
    person: bool = False
    frame_s: float | None = None  # time of the frame that is the image [s]

    def question(self, world: World, prompt: str) -> Question:
        """The search for the engine."""
        if self.frame_s is not None:
            return Question("", moments=BEST, image=world.frame(self.frame_s))
        return Question(prompt.replace("{}", self.text), moments=BEST)

    def is_shown_at(self, truth: Truth) -> bool:
        return (
            (not self.things or not self.things.isdisjoint(truth.things))
            and (not self.room or self.room == truth.room)
            and (not self.person or truth.person)
        )


class Found(NamedTuple):
    """The result of one search in one memory."""

    memory: str
    kind: str
    stored: bool  # any entry of the memory shows what was searched for
    found: bool  # one of the best moments shows it
    first: bool  # the best moment shows it
    newest: bool  # one of the newest entries shows it
    random: float  # probability that one of BEST random entries shows it


def searches(past: Past, rng: np.random.Generator) -> Iterator[Search]:
    """Searches for what was seen in `past`."""
    things = sorted(things_known(past))
    for index in rng.permutation(len(things))[:THINGS]:
        yield Search("thing", things[index].name, frozenset([things[index].name]))
    for index in rng.permutation(len(things))[:THINGS_IN_ROOMS]:
        name, room = things[index].name, past.last[things[index]].room
        yield Search("thing in a room", f"{name} in the {room}", frozenset([name]), room)
    kinds = sorted({thing.kind for thing in things})
    for index in rng.permutation(len(kinds))[:KINDS]:
        alike = frozenset(thing.name for thing in EVERY_THING if thing.kind == kinds[index])
        yield Search("any colour", kinds[index], alike)
    rooms = sorted({visit.room for visit in past.visits if visit.room not in past.fresh})
    for index in rng.permutation(len(rooms))[:ROOMS]:
        yield Search("room", rooms[index], room=rooms[index])
    if past.person and "person" not in past.fresh:
        yield Search("person", "person", person=True)


def image_searches(world: World, now: float, rng: np.random.Generator) -> Iterator[Search]:
    """Searches for frames of things seen by the time `now` [s]. The memory has none of these frames."""
    visits = past_of(world.visits, now).visits
    seen = [(visit.room, each) for visit in visits for each in visit.observations if each.thing]
    for index in rng.permutation(len(seen))[:IMAGES]:
        room, observation = seen[index]
        middle_s = round((observation.start + observation.end) / 2) + 0.5
        yield Search("image", "", frozenset(world.truth(middle_s).things), room, frame_s=middle_s)


def patrol(model: Any, seed: int, minutes: float, pace_s: Sequence[float], prompt: str) -> list[Found]:
    """Search at several moments of one patrol, in each of MEMORIES."""
    rng = np.random.default_rng(seed)
    world = World(seed, minutes, pace_s=rng.uniform(min(pace_s), max(pace_s)))
    memories = {name: FlashMemory(config) for name, config in MEMORIES.items()}
    config = EngineConfig(second_look=SECOND_LOOK_SHARE)  # of a hierarchical memory only
    askers = {name: Asker.of(model, memory, "cached", config) for name, memory in memories.items()}
    results = []
    for now, slots in slots_by_moment(model, world, minutes):
        for slot in slots:
            for memory in memories.values():
                memory.insert(slot)
        wanted = [
            *searches(past_of(world.visits, now), rng),
            *image_searches(world, now, np.random.default_rng((seed, round(now)))),
        ]
        for name, asker in askers.items():
            entries = memories[name].list_entries()
            for search in wanted:
                answer = asker.ask(search.question(world, prompt)).answer
                best = [shows(world, search, moment.entry) for moment in answer.evidence]
                results.append(_found(name, world, search, best, entries))
    return results


def _found(memory: str, world: World, search: Search, best: Sequence[bool], entries: Sequence[MemoryEntry]) -> Found:
    newest_first = sorted(entries, key=lambda entry: -entry.thumbnail_ns)
    shown = [shows(world, search, entry) for entry in newest_first]
    return Found(
        memory,
        search.kind,
        stored=any(shown),
        found=any(best),
        first=best[0],
        newest=any(shown[:BEST]),
        random=1 - comb(len(shown) - sum(shown), BEST) / comb(len(shown), BEST),
    )


def shows(world: World, search: Search, entry: MemoryEntry, start_s: float = 0.0) -> bool:
    """Whether the thumbnail of an entry shows what is searched for; `start_s` is the stamp of the first frame [s]."""
    return search.is_shown_at(world.truth(entry.thumbnail_ns / SECOND_NS - start_s))


def run(
    model: str = HOUSEHOLD,
    streams: int = 5,
    minutes: float = 150.0,
    seed: int = FIRST_SEED,
    device: str = "auto",
    processes: int = 1,
    pace: Sequence[float] = PACE_S,
    prompt: str | None = None,
) -> dict[str, Any]:
    """Search `streams` patrols, with seeds from `seed` on. `prompt` defaults to the service's. Raises ModelError."""
    prompt = prompt or SEARCH_PROMPT
    one = partial(_patrol, model, device, minutes, tuple(pace), prompt)
    seeds = range(seed, seed + streams)
    if processes == 1:
        found = [each for patrol in tracked(map(one, seeds), "patrols", streams) for each in patrol]
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            found = [each for patrol in tracked(pool.map(one, seeds), "patrols", streams) for each in patrol]
    settings = {"streams": streams, "minutes": minutes, "pace": [*pace], "seed": seed, "prompt": prompt}
    return {"model": model, **settings, "memories": {name: figures(found, name) for name in MEMORIES}}


def figures(found: Iterable[Found], memory: str) -> dict[str, dict[str, Any]]:
    """By kind of search, and for "all texts": number of searches, and shares that found what they searched for."""
    of_memory = [each for each in found if each.memory == memory]
    kinds = {
        kind: [each for each in of_memory if each.kind == kind] for kind in dict.fromkeys(e.kind for e in of_memory)
    }
    texts = [each for each in of_memory if each.kind != "image"]
    return {kind: _shares(group) for kind, group in {"all texts": texts, **kinds}.items()}


def _shares(group: Sequence[Found]) -> dict[str, Any]:
    stored = [each for each in group if each.stored]
    return {
        "searches": len(group),
        "stored": len(stored),
        "found": _mean(each.found for each in group),
        "found_of_stored": _mean(each.found for each in stored),
        "first_of_stored": _mean(each.first for each in stored),
        "newest": _mean(each.newest for each in group),
        "random": _mean(each.random for each in group),
    }


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return fmean(listed) if listed else None


def _patrol(model: str, device: str, minutes: float, pace_s: tuple[float, ...], prompt: str, seed: int) -> list[Found]:
    return patrol(loaded(model, device), seed, minutes, pace_s, prompt)


COLUMNS = {
    "found": "found",
    "found_of_stored": "of stored",
    "first_of_stored": "first",
    "newest": "newest 3",
    "random": "random 3",
}


def show(result: dict[str, Any]) -> None:
    print(f"searches with the prompt {result['prompt']!r} in patrols of {result['minutes']:g} minutes")
    print(f"found: % of the searches in which one of the first {BEST} moments shows what was searched for; of stored:")
    print("the same of those that some entry shows; first: of these, % in which the best moment shows it; newest 3,")
    print("random 3: % that would be found in 3 entries without a search")
    for memory, rows in result["memories"].items():
        print(f"\n{memory:>16}{'searches':>10}{'stored':>8}" + "".join(f"{title:>10}" for title in COLUMNS.values()))
        for kind, row in rows.items():
            shares = "".join(f"{'-' if row[key] is None else format(100 * row[key], '.1f'):>10}" for key in COLUMNS)
            print(f"{kind:>16}{row['searches']:>10}{row['stored']:>8}{shares}")
