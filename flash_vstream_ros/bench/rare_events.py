"""Rare events in memories of a long stream, and distortion over all slots, at equal numbers of visual tokens.

Rare events happen once: early in the stream, objects and passers-by change some patches of the view for two slots. An
entry is near an event if its squared distance is less than a quarter of the squared distance from the event to the same
view without it. The distortion of a memory is the squared distance of a slot to the nearest entry, over all slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, Grid, MemorySnapshot, Slot
from flash_vstream_ros.memory.config import BY_WEIGHT, HIERARCHICAL, PUBLISHED
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.memory.token_snapshot import TokenSnapshot
from flash_vstream_ros.progress import tracked

from .baselines import TOKEN_MEMORIES, ChosenSlots, Policy, policies
from .distortion import SLOT_NS, robot_stream

EVENTS, EVENT_SLOTS = 90, 2
EVENT_HOURS = (0.4, 2.5)  # time range of the events
SHARES = {"object": 0.25, "passer-by": 0.375}  # share of patches that show it
MIN_DISTANCE = 8  # slots between two events
NEAR = 0.25
SLOTS_PER_HOUR = 3600 * SECOND_NS // SLOT_NS
CONTROL = "last 4 frames"
COMPARED = ("CSM only", "DAM only", "k-means", "uniform", "reservoir", "recent", "FIFO", "released", *TOKEN_MEMORIES)
SECOND_LOOK_SHARE = 0.25  # size of a second look, as a share of the budget
LOOKED_AT = 3  # number of entries, those nearest to the event, that get a second look
SECOND_LOOK, STORED = f"{HIERARCHICAL}, second look", f"{HIERARCHICAL}, stored"  # rows with more than a snapshot
ALL_TOKENS = 1 << 40  # a budget for everything stored


class Event(NamedTuple):
    """Something seen in EVENT_SLOTS slots from slot `first`."""

    kind: str  # one of SHARES
    first: int
    offset: Tensor  # [features] added to the view


def add_events(slots: Tensor, patches: int, seed: int) -> list[Event]:
    """Add EVENTS rare events to `slots` [slots, features], in place, at times when the view does not change."""
    draw = torch.Generator().manual_seed(seed)
    steps = (slots[1:] - slots[:-1]).square().sum(1)
    resting = steps < 2 * steps.median()
    first, last = (int(hours * SLOTS_PER_HOUR) for hours in EVENT_HOURS)
    last = min(last, len(slots) - EVENT_SLOTS - 1)
    possible = [at for at in range(first, last) if bool(resting[at - 1 : at + EVENT_SLOTS].all())]
    order = torch.randperm(len(possible), generator=draw).tolist()
    chosen: list[int] = []
    for at in (possible[place] for place in order):
        if len(chosen) < EVENTS and all(abs(at - other) >= MIN_DISTANCE for other in chosen):
            chosen.append(at)
    events = []
    for number, at in enumerate(sorted(chosen)):
        kind = tuple(SHARES)[number % len(SHARES)]
        count = max(1, round(SHARES[kind] * patches))
        offset = torch.zeros(patches, slots.shape[1] // patches)
        where = torch.randperm(patches, generator=draw)[:count]
        offset[where] = 2**0.5 * torch.randn(count, offset.shape[1], generator=draw)
        events.append(Event(kind, at, offset.flatten()))
        slots[at : at + EVENT_SLOTS] += events[-1].offset
    return events


def nearest(rows: Tensor, entries: Tensor) -> Tensor:
    """Squared distances [rows] of `rows` [rows, features] to the nearest of `entries` [entries, features]."""
    if not len(entries):
        return torch.full((len(rows),), torch.inf)
    return torch.cdist(rows, entries).min(1).values.square()


def run(
    hours: Sequence[float],
    seed: int,
    capacity: int = 60,
    patches: int = 16,
    dim: int = 64,
    grouping: str = BY_WEIGHT,
    **stream: Any,
) -> dict[str, Any]:
    """Shares of events with an entry near them, and mean and worst distortion of all slots, by policy and age."""
    slots = robot_stream(int(max(hours) * SLOTS_PER_HOUR), seed, patches, dim, **stream)
    events = add_events(slots, patches, seed)
    views = torch.stack([slots[event.first : event.first + EVENT_SLOTS].mean(0) for event in events])
    key_frames = max(1, capacity // 2)
    config = FlashMemoryConfig(capacity, key_frames, horizon_slots=0, slot_period_ns=SLOT_NS, grouping=grouping)
    side = 2 * int(patches**0.5)
    memories = _memories(config, Grid(side, side), seed)
    marks = {int(hour * SLOTS_PER_HOUR): f"{hour:g} h" for hour in hours}
    rows: dict[str, dict[str, Any]] = {}
    for index, features in enumerate(tracked(slots, "rare events", len(slots))):
        slot = _slot(features, index, patches)
        tokens = replace(slot, detail=slot.low)
        for name, memory in memories.items():
            memory.insert(tokens if name in TOKEN_MEMORIES else slot)
        if (age := marks.get(index + 1)) is None:
            continue
        for name, memory in memories.items():
            snapshot = memory.snapshot()
            entries = _vectors(snapshot, slots)
            found = nearest(views, entries)
            rows.setdefault(name, {})[age] = _row(events, found, entries, slots[: index + 1])
            if name == HIERARCHICAL and isinstance(memory, FlashMemory):
                looked = _second_looks(memory, snapshot, entries, views, slots)
                row = _row(events, torch.minimum(found, looked), entries, slots[: index + 1])
                rows.setdefault(SECOND_LOOK, {})[age] = row
                behind = memory.second_look(snapshot.entries, ALL_TOKENS)
                stored = torch.cat([entries, _vectors(behind, slots)])
                row = _row(events, nearest(views, stored), stored, slots[: index + 1])
                rows.setdefault(STORED, {})[age] = row
    sizes = {name: memory.bytes for name, memory in memories.items() if isinstance(memory, FlashMemory)}
    return {"events": len(events), "ages": list(marks.values()), "policies": rows, "bytes": sizes}


def show(result: dict[str, Any]) -> None:
    print(
        f"{result['events']} rare events of {EVENT_SLOTS} slots: % of objects / passers-by with an entry near them; "
        "mean and worst squared distance of all slots to the nearest entry, over that to the mean slot"
    )
    print(f"{'':>26}" + "".join(f"{age:>24}" for age in result["ages"]))
    for name, row in result["policies"].items():
        cells = (
            f"{100 * cell['object']:.0f} / {100 * cell['passer-by']:.0f}  {cell['mean']:.3f}  {cell['worst']:.2f}"
            for cell in row.values()
        )
        print(f"{name:>26}" + "".join(f"{cell:>24}" for cell in cells))
    sizes = result["bytes"]
    print(f"bytes, hierarchical over published: {sizes[HIERARCHICAL] / sizes[PUBLISHED]:.2f}")


def _memories(config: FlashMemoryConfig, grid: Grid, seed: int) -> dict[str, Policy]:
    others = policies(config, grid, seed)
    return {
        HIERARCHICAL: FlashMemory(replace(config, retention=HIERARCHICAL)),
        PUBLISHED: FlashMemory(replace(config, retention=PUBLISHED)),
        **{name: others[name] for name in COMPARED},
        CONTROL: ChosenSlots(config, lambda slots: (slots, []), capacity=2),
    }


def _slot(features: Tensor, index: int, patches: int) -> Slot:
    """Slot `index`. Its detail encodes the index, and has as many tokens as that of a real slot."""
    first_ns, side = index * SLOT_NS, 2 * int(patches**0.5)
    low, detail = features.unflatten(0, (patches, -1)), features.new_full((patches, 1), float(index))
    return Slot("camera", "", first_ns, first_ns + SLOT_NS // 2, low, detail, Grid(side, side))


def _vectors(snapshot: MemorySnapshot, slots: Tensor) -> Tensor:
    """The entries of a snapshot as vectors [entries, features]: the slots of its key frames, and its centroids.

    An entry of single tokens is completed by the latest earlier token at each other place.
    """
    if isinstance(snapshot, TokenSnapshot):
        return snapshot.completed(slots.shape[1] // snapshot.tokens.shape[1]).flatten(1)
    key_frames = slots[[int(detail[0, 0]) for detail in snapshot.dam]]
    return torch.cat([key_frames, snapshot.csm.flatten(1)]) if len(snapshot.csm) else key_frames


def _row(events: Sequence[Event], found: Tensor, entries: Tensor, slots: Tensor) -> dict[str, float]:
    near = [
        float(squared) < NEAR * float(event.offset.square().sum()) for event, squared in zip(events, found, strict=True)
    ]
    spread = float((slots - slots.mean(0)).square().sum(1).mean())
    shares = {
        kind: fmean(is_near for event, is_near in zip(events, near, strict=True) if event.kind == kind)
        for kind in SHARES
    }
    distances = nearest(slots, entries) / spread
    return {**shares, "mean": float(distances.mean()), "worst": float(distances.max())}


def _second_looks(
    memory: FlashMemory, snapshot: MemorySnapshot, entries: Tensor, views: Tensor, slots: Tensor
) -> Tensor:
    """Squared distance of each event to the nearest cluster of a second look at the entries nearest to it."""
    budget = int(SECOND_LOOK_SHARE * memory.tokens)
    order = torch.cdist(views, entries).argsort(1)[:, :LOOKED_AT].tolist()
    found = []
    for view, places in zip(views, order, strict=True):
        looked = memory.second_look([snapshot.entries[place] for place in places], budget)
        found.append(float(nearest(view[None], _vectors(looked, slots))))
    return torch.tensor(found)
