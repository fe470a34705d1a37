"""Baselines for Flash Memory: memory policies with the same number of visual tokens.

Each accepts slots and returns snapshots, as Flash Memory does. Offline policies store every slot and choose from all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from flash_vstream_ros.memory import (
    EntryKind,
    FlashMemory,
    FlashMemoryConfig,
    Grid,
    MemoryEntry,
    MemorySnapshot,
    Slot,
    klarge_retrieve,
    ordered_kmeans,
    video_memory,
)
from flash_vstream_ros.memory.config import MERGED_PATCHES
from flash_vstream_ros.memory.fluxmem import FluxMem
from flash_vstream_ros.memory.infinipot_v import InfiniPotV
from flash_vstream_ros.memory.slot import empty_snapshot
from flash_vstream_ros.memory.time_ids import MemoryClock, text_slots
from flash_vstream_ros.memory.timechat_online import TimeChatOnline
from flash_vstream_ros.memory.token_buffer import TokenBuffer

# Memories of other papers that keep single tokens, by the name of the paper's system.
TOKEN_MEMORIES: dict[str, type[TokenBuffer]] = {
    "TimeChat-Online": TimeChatOnline,
    "InfiniPot-V": InfiniPotV,
    "FluxMem": FluxMem,
}
OFFLINE = ("k-means", "uniform", "released")
LAST_4, LAST_4_SLOTS = "last 4 frames", 2  # the control of the newest frames in detail, far below the budget


class Policy(Protocol):
    """A memory of one camera's slots. `snapshot` needs at least one slot."""

    def insert(self, slot: Slot) -> object: ...

    def snapshot(self) -> MemorySnapshot: ...


class Budget(NamedTuple):
    """A budget of visual tokens, and the numbers of slots that fit into it at each resolution."""

    tokens: int
    low_slots: int
    detail_slots: int

    @classmethod
    def of(cls, config: FlashMemoryConfig, grid: Grid) -> Budget:
        """The budget of a full Flash Memory with slots of `grid`."""
        detail = grid.height * grid.width // MERGED_PATCHES
        low = detail // MERGED_PATCHES  # half the resolution on both axes
        tokens = config.csm_slots * low + config.dam_slots * detail
        return cls(tokens, tokens // low, tokens // detail)


def policies(config: FlashMemoryConfig, grid: Grid, seed: int) -> dict[str, Policy]:
    """All policies, empty, with the budget of a Flash Memory of `config`. Random choices depend on `seed`."""
    budget = Budget.of(config, grid)
    low_only = replace(config, csm_slots=budget.low_slots)
    detail_only = replace(config, csm_slots=budget.detail_slots, dam_slots=budget.detail_slots)
    return {
        "flash": FlashMemory(config),
        "k-means": KMeans(config, seed),
        "CSM only": OneKindOnly(FlashMemory(low_only), EntryKind.CSM, config),
        "DAM only": OneKindOnly(FlashMemory(detail_only), EntryKind.DAM, config),
        "uniform": ChosenSlots(config, lambda slots: (evenly(slots, budget.detail_slots), [])),
        "reservoir": Reservoir(config, budget.detail_slots, seed),
        "recent": ChosenSlots(config, lambda slots: (slots, []), budget.detail_slots),
        LAST_4: ChosenSlots(config, lambda slots: (slots, []), LAST_4_SLOTS),
        "FIFO": ChosenSlots(config, lambda slots: (slots[-config.dam_slots :], slots), config.csm_slots),
        "released": Released(config, seed),
        **{name: SingleTokens(kind(config), config) for name, kind in TOKEN_MEMORIES.items()},
        "no video": NoVideo(),
    }


def evenly(slots: Sequence[Slot], count: int) -> list[Slot]:
    """Up to `count` evenly spaced slots, including the first and the last."""
    places = torch.linspace(0, len(slots) - 1, min(count, len(slots)), dtype=torch.float64)
    return [slots[index] for index in places.round().long().tolist()]


def _clock(origin_ns: int, newest: Slot, config: FlashMemoryConfig) -> MemoryClock:
    """A clock that counts from the stream's first slot, stored or not, so that all policies have the same time ids."""
    return MemoryClock(origin_ns, newest.time_ns, config.slot_period_ns, horizon_slots=0)


class ChosenSlots:
    """Stores the newest `capacity` slots (None: all) without merging them, and shows some of them.

    `choose` returns the slots for DAM and those for CSM.
    """

    def __init__(
        self,
        config: FlashMemoryConfig,
        choose: Callable[[list[Slot]], tuple[list[Slot], list[Slot]]],
        capacity: int | None = None,
    ) -> None:
        self._config, self._choose = config, choose
        self._slots: deque[Slot] = deque(maxlen=capacity)
        self._newest: Slot | None = None
        self._origin_ns = self._seen = 0

    def insert(self, slot: Slot) -> None:
        if not self._seen:
            self._origin_ns = slot.time_ns
        self._newest = slot
        self._store(slot)
        self._seen += 1

    def _store(self, slot: Slot) -> None:
        self._slots.append(slot)

    def snapshot(self) -> MemorySnapshot:
        detail, low = self._choose(list(self._slots))
        newest = self._newest
        assert newest is not None, "a snapshot needs a slot"
        clock = _clock(self._origin_ns, newest, self._config)
        return MemorySnapshot(
            dam=_stacked([slot.detail for slot in detail], newest.detail),
            dam_times=clock.of((slot.time_ns, 1) for slot in detail),
            csm=_stacked([slot.low for slot in low], newest.low),
            csm_times=clock.of((slot.time_ns, 1) for slot in low),
            grid=newest.grid,
            entries=(*(slot.entry() for slot in detail), *(replace(slot.entry(), kind=EntryKind.CSM) for slot in low)),
            slots_seen=self._seen,
            text_slots=text_slots(clock, self._seen, self._config),
            newest_ns=newest.last_ns,
        )


class Reservoir(ChosenSlots):
    """A uniform random sample of all slots so far, in detail (Vitter's algorithm R)."""

    def __init__(self, config: FlashMemoryConfig, capacity: int, seed: int) -> None:
        super().__init__(config, lambda slots: (slots, []))
        self._capacity, self._draw = capacity, np.random.default_rng(seed)

    def _store(self, slot: Slot) -> None:
        if len(self._slots) == self._capacity:
            place = int(self._draw.integers(self._seen + 1))
            if place >= self._capacity:
                return
            del self._slots[place]
        self._slots.append(slot)


class OneKindOnly:
    """A Flash Memory whose snapshots have only its clusters, or only its key frames."""

    def __init__(self, memory: FlashMemory, kind: EntryKind, config: FlashMemoryConfig) -> None:
        self._memory, self._kind, self._config = memory, kind, config

    def insert(self, slot: Slot) -> None:
        self._memory.insert(slot)

    def snapshot(self) -> MemorySnapshot:
        full = self._memory.snapshot()
        entries = tuple(entry for entry in full.entries if entry.kind is self._kind)
        # The question's position stays as in training.
        text_ids = text_slots(self._memory.clock, full.slots_seen, self._config)
        snapshot = replace(full, entries=entries, text_slots=text_ids)
        if self._kind is EntryKind.DAM:
            return replace(snapshot, csm=full.csm[:0], csm_times=full.csm_times[:0])
        return replace(snapshot, dam=full.dam[:0], dam_times=full.dam_times[:0])


class KMeans:
    """The published offline memory: k-means over all slots."""

    def __init__(self, config: FlashMemoryConfig, seed: int) -> None:
        self._config, self._seed = config, seed
        self._slots: list[Slot] = []

    def insert(self, slot: Slot) -> None:
        self._slots.append(slot)

    def snapshot(self) -> MemorySnapshot:
        published = video_memory(self._slots, self._config.csm_slots, self._config.dam_slots, seed=self._seed)
        if not self._config.last_seen_ids:
            return published
        details = len(published.dam)
        clusters = sorted(enumerate(published.entries[details:]), key=lambda cluster: cluster[1].last_ns)
        clock = _clock(self._slots[0].time_ns, self._slots[-1], self._config)
        return replace(
            published,
            csm=published.csm[[row for row, _ in clusters]],
            csm_times=clock.of((entry.last_ns, 1) for _, entry in clusters),
            entries=(*published.entries[:details], *(entry for _, entry in clusters)),
            text_slots=text_slots(clock, len(self._slots), self._config),
        )


class Released:
    """The streaming rule of the released code: k-means over the centroids and the new slot, with a random start.

    The time ids of CSM are places in the buffer, as released. DAM is retrieved from all slots.
    """

    def __init__(self, config: FlashMemoryConfig, seed: int) -> None:
        self._config, self._seed = config, seed
        self._slots: list[Slot] = []
        self._centroids = self._weights = torch.zeros(0)
        self._spans: list[tuple[int, int]] = []  # first and last stamp of each cluster [ns]

    def insert(self, slot: Slot) -> None:
        step, low = len(self._slots), slot.low[None]
        self._slots.append(slot)
        rows = torch.cat([self._centroids, low]) if step else low
        weights = torch.cat([self._weights, torch.ones(1, device=self._weights.device)])
        found = ordered_kmeans(rows, self._config.csm_slots, weights, seed=self._seed + step)
        spans = [*self._spans, (slot.first_ns, slot.last_ns)]
        self._spans = [
            (min(spans[row][0] for row in rows), max(spans[row][1] for row in rows)) for rows in found.members
        ]
        self._centroids, self._weights = found.centroids, found.weights

    def snapshot(self) -> MemorySnapshot:
        low = torch.stack([slot.low for slot in self._slots])
        chosen = klarge_retrieve(low, self._centroids, self._weights, self._config.dam_slots)
        dam, seen = [self._slots[index] for index in chosen], len(self._slots)
        clusters = zip(self._spans, self._weights.tolist(), strict=True)
        return MemorySnapshot(
            dam=torch.stack([slot.detail for slot in dam]),
            dam_times=torch.tensor(chosen, dtype=torch.float64),
            csm=self._centroids.clone(),
            csm_times=torch.arange(len(self._centroids), dtype=torch.float64),
            grid=dam[0].grid,
            entries=(
                *(slot.entry() for slot in dam),
                *(MemoryEntry(EntryKind.CSM, "", "", *span, weight, b"", span[1]) for span, weight in clusters),
            ),
            slots_seen=seen,
            text_slots=text_slots(MemoryClock(0, seen - 1, 1, 0), seen, self._config),  # of places in the buffer
            newest_ns=self._slots[-1].last_ns,
        )


class SingleTokens:
    """A memory of single tokens, with time ids that count from the stream's first slot, as for all policies."""

    def __init__(self, memory: TokenBuffer, config: FlashMemoryConfig) -> None:
        self._memory, self._config = memory, config
        self._first: Slot | None = None
        self._newest: Slot | None = None

    def insert(self, slot: Slot) -> None:
        self._first, self._newest = self._first or slot, slot
        self._memory.insert(slot)

    def snapshot(self) -> MemorySnapshot:
        assert self._first is not None, "a snapshot needs a slot"
        assert self._newest is not None
        found, seen = self._memory.snapshot(), self._memory.slots_seen
        clock = _clock(self._first.time_ns, self._newest, self._config)
        return replace(
            found,
            dam_times=clock.of((entry.last_ns, 1) for entry in found.entries),
            slots_seen=seen,
            text_slots=text_slots(clock, seen, self._config),
        )


class NoVideo:
    """No memory, to measure how many questions can be answered without any image."""

    def insert(self, slot: Slot) -> None:
        pass

    def snapshot(self) -> MemorySnapshot:
        return empty_snapshot()


def _stacked(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """Stack `parts` to [parts, ...]; if there are none, `like` determines the shape."""
    return torch.stack(list(parts)) if parts else like.new_zeros(0, *like.shape)
