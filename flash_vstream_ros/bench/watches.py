"""Counts the events of watches on unseen patrols: each appearance of a person or a thing must raise exactly one.

The simulator says when something is in view. Watches are checked on every slot, by the engine's own code, with a
simulated clock: the rate of the checks is exact and does not depend on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from flash_vstream_ros.demo.world import World
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.engine.watches.hysteresis import Change
from flash_vstream_ros.engine.watches.watch import Watch, WatchConfig, WatchEvent
from flash_vstream_ros.engine.watches.watches import Watches
from flash_vstream_ros.memory import FlashMemory
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.household_settings import FRAME_S, MEMORY, SLOT_S, complete_slots
from flash_vstream_ros.models.names import HOUSEHOLD
from flash_vstream_ros.progress import tracked

from .patrol_evaluation import encoded_slots, loaded
from .watch_cost import cost
from .watch_cost import show as show_cost

FIRST_SEED = 860_000
SHORTEST_SLOTS = 3  # shorter appearances may raise an event, but need not
CHECKS = 2  # periods within which an event must come
PERSON = "Did you see a person?"
THING = "Have you seen a {}?"
CHUNK_TOKENS = 1 << 20


class Appearance(NamedTuple):
    """Consecutive slots in which something is in view, by their numbers, both included."""

    first: int
    last: int


class Score(NamedTuple):
    """Counts for the watches of one patrol."""

    appearances: int  # of SHORTEST_SLOTS or more
    found: int  # of these, with exactly one event in time
    events: int
    right: int  # events during or just after an appearance, the first one of it


def appearances(visible: Sequence[bool]) -> list[Appearance]:
    """The runs of True in `visible`."""
    edges = np.flatnonzero(np.diff([0, *map(int, visible), 0]))
    return [Appearance(int(first), int(after) - 1) for first, after in zip(edges[::2], edges[1::2], strict=True)]


def scored(clear: Sequence[bool], partly: Sequence[bool], events: Sequence[int]) -> Score:
    """Compare events, by the number of their slot, with the slots in which something is clearly or partly in view.

    An appearance counts if it is clear in SHORTEST_SLOTS or more slots. Its event may come from its first partly
    visible slot on, until CHECKS slots after it became clear.
    """
    counted = found = right = 0
    for run in appearances(partly):
        inside = [event for event in events if run.first <= event <= run.last]
        right += bool(inside)
        clear_runs = [each for each in appearances(clear) if run.first <= each.first and each.last <= run.last]
        if not clear_runs or max(each.last - each.first + 1 for each in clear_runs) < SHORTEST_SLOTS:
            continue
        counted += 1
        first_clear = min(each.first for each in clear_runs)
        found += len(inside) == 1 and inside[0] <= first_clear + CHECKS
    return Score(counted, found, len(events), right)


def patrol(model: Any, seed: int, minutes: float, things: int) -> Score:
    """Watch one patrol for a person and for `things` things that appear in it."""
    rng, world = np.random.default_rng(seed), World(seed, minutes)
    slots = range(complete_slots(min(60 * minutes, world.duration)))
    truths = [[world.truth(slot * SLOT_S + after) for after in (0.0, FRAME_S)] for slot in slots]
    names = sorted({name for both in truths for truth in both for name in truth.things})
    watched = [PERSON, *(THING.format(name) for name in rng.permutation(names)[:things])]
    raised = events_of(model, world, slots, watched)
    total = np.zeros(len(Score._fields), int)
    for text in watched:
        shown = [[(text == PERSON and truth.person) or _names(text, truth.things) for truth in both] for both in truths]
        total += scored([all(both) for both in shown], [any(both) for both in shown], raised[text])
    return Score(*total.tolist())


def _names(text: str, things: Sequence[str]) -> bool:
    return any(text == THING.format(name) for name in things)


def events_of(model: Any, world: World, slots: range, texts: Sequence[str]) -> dict[str, list[int]]:
    """Numbers of the slots at which each watch began."""
    memory, clock = FlashMemory(MEMORY), _Clock()
    events: list[WatchEvent] = []
    context = Context(model, memory, ThrottledLog(print))
    config = WatchConfig(max_watches=len(texts), device_share=1.0)
    watches = Watches(context, ("camera",), config, lambda: CHUNK_TOKENS, events.append, clock)
    for text in texts:
        watches.add(Watch(text, text, period_s=SLOT_S))
    grid = model.grid(*world.frame(0.0).shape[:2])
    for slot in encoded_slots(model, world, slots, grid):
        memory.insert(slot)
        clock.now += SLOT_S
        while watches.check() == 0.0:
            pass
    found: dict[str, list[int]] = {text: [] for text in texts}
    for event in events:
        if event.change is Change.BEGAN:
            found[event.watch.text].append(int(event.stamp_ns / SECOND_NS / SLOT_S))
    return found


class _Clock:
    """A clock that the benchmark sets [s]."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(
    model: str = HOUSEHOLD,
    streams: int = 50,
    minutes: float = 8.0,
    seed: int = FIRST_SEED,
    device: str = "auto",
    things: int = 2,
) -> dict[str, Any]:
    """Watch `streams` patrols, with seeds from `seed` on. Raises ModelError."""
    own = loaded(model, device)
    patrols = (patrol(own, number, minutes, things) for number in range(seed, seed + streams))
    total = Score(*map(sum, zip(*tracked(patrols, "patrols", streams), strict=True)))
    settings = {"streams": streams, "minutes": minutes, "seed": seed, "things": things}
    return {"model": model, **settings, **figures(total), "cost": cost(own, seed)}


def figures(total: Score) -> dict[str, Any]:
    return {
        **total._asdict(),
        "recall": total.found / total.appearances if total.appearances else None,
        "precision": total.right / total.events if total.events else None,
    }


def show(result: dict[str, Any]) -> None:
    watched = f"a person and {result['things']} things"
    print(f"{result['streams']} patrols of {result['minutes']:g} minutes, each watched for {watched}")
    for name, text in (
        ("recall", f"of {result['appearances']} appearances of {SHORTEST_SLOTS} slots: exactly one event, in time"),
        ("precision", f"of {result['events']} events: the first of an appearance"),
    ):
        share = "-" if result[name] is None else f"{100 * result[name]:.1f} %"
        print(f"{share:>8} {text}")
    show_cost(result["cost"])
