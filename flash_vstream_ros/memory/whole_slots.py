"""A memory of whole slots, all in detail: what policies that choose among slots have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .admission import check, check_stay
from .config import FlashMemoryConfig
from .interface import Forgotten
from .slot import EntryKind, Grid, MemoryEntry, MemorySnapshot, Slot, Stay
from .spans import Interval
from .time_ids import TimeIds, text_slots

LOW_PER_DETAIL = 4  # a slot in detail has as many tokens as four at low resolution


@dataclass(frozen=True, eq=False)
class Numbered:
    """A slot that is held, and how many of its camera came before it."""

    slot: Slot
    number: int


class HeldKind(NamedTuple):
    """Features of a slot that is held, as `check` compares them."""

    low: Tensor  # [1, low_patches, dim]
    detail: Tensor  # [1, detail_tokens, width]


class WholeSlots(ABC):
    """Holds as many slots as a Flash Memory of the same `config` has tokens for. One owner; not thread safe.

    What is not held is gone, so that what may be seen, and what is forgotten, is exact to the slot.
    """

    every_camera = False  # whether something of each camera is always held

    def __init__(self, config: FlashMemoryConfig | None = None) -> None:
        self.config = config or FlashMemoryConfig()
        self._revision = -1
        self.reset()

    @abstractmethod
    def _chosen(self, held: list[Numbered]) -> list[Numbered]:
        """At most `capacity` of `held`, which are in the order of their times."""

    def reset(self) -> None:
        """Forget everything; the next slot may have another shape and an earlier stamp."""
        self._held: list[Numbered] = []
        self._counts: dict[str, int] = {}
        self._slots_seen = 0
        self._revision += 1

    @property
    def capacity(self) -> int:
        """Most entries there can be."""
        return self.config.dam_slots + self.config.csm_slots // LOW_PER_DETAIL

    @property
    def entries(self) -> int:
        return len(self._held)

    @property
    def slots_seen(self) -> int:
        return self._slots_seen

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def first_ns(self) -> int:
        return min((one.slot.first_ns for one in self._held), default=0)

    @property
    def last_ns(self) -> int:
        return max((one.slot.last_ns for one in self._held), default=0)

    @property
    def newest(self) -> tuple[int, int]:
        return max(((one.slot.time_ns, one.slot.last_ns) for one in self._held), default=(0, 0))

    def newest_of(self, camera: str) -> tuple[int, int] | None:
        own = (one.slot for one in self._held if one.slot.camera == camera)
        return max(((slot.time_ns, slot.last_ns) for slot in own), default=None)

    @property
    def tokens(self) -> int:
        return sum(len(one.slot.detail) for one in self._held)

    @property
    def bytes(self) -> int:
        tensors = [tensor for one in self._held for tensor in (one.slot.low, one.slot.detail)]
        thumbnails = sum(len(one.slot.thumbnail) for one in self._held)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + thumbnails

    @torch.no_grad()
    def insert(self, slot: Slot) -> float:
        """Take in a slot; its novelty: 1 - cosine similarity, in [0, 1], with the most similar one held of its camera.

        Raises ValueError, and changes nothing, as FlashMemory does.
        """
        other = self._held[-1].slot if self._held else None
        kind = HeldKind(other.low[None], other.detail[None]) if other else None
        grid = other.grid if other else Grid(0, 0)
        check(slot, kind, grid, self.newest_of(slot.camera), self.config.patches_per_token)
        if not bool(slot.low.isfinite().all() & slot.detail.isfinite().all()):
            raise ValueError(f"a slot of camera {slot.camera!r} has NaN or infinite features; leave it out")
        self._check_room({slot.camera})
        own = [one.slot.low.flatten().float() for one in self._held if one.slot.camera == slot.camera]
        alike = [torch.cosine_similarity(low, slot.low.flatten().float(), dim=0) for low in own]
        number = self._counts.get(slot.camera, 0)
        self._counts[slot.camera] = number + 1
        self._slots_seen += 1
        self._keep([*self._held, Numbered(slot, number)])
        return min(1.0, max(0.0, 1.0 - float(max(alike)))) if alike else 1.0

    def stay(self, camera: str, stay: Stay) -> None:
        """Let the newest slot of `camera` go on, as FlashMemory does; it takes no further place."""
        newest = self.newest_of(camera)
        check_stay(camera, stay, newest)
        self._held = [
            replace(one, slot=one.slot.staying(stay))
            if one.slot.camera == camera and one.slot.time_ns == newest[0]  # type: ignore[index]
            else one
            for one in self._held
        ]
        self._counts[camera] = self._counts.get(camera, 0) + stay.slots
        self._slots_seen += stay.slots

    def forget(self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0) -> Forgotten:
        """Forget the slots of `cameras` (none given: all) that reach into the interval (0: no bound)."""
        gone = self._touched(cameras, Interval(since_ns, until_ns))
        self._held = [one for one in self._held if one not in gone]
        self._revision += bool(gone)
        return Forgotten(len(gone), len(gone))

    def resize(self, config: FlashMemoryConfig) -> None:
        """Go on with other sizes, or another clock; ValueError when there are more cameras than slots."""
        before, self.config = self.config, config
        try:
            self._check_room(set())
        except ValueError:
            self.config = before
            raise
        self._keep(self._held)

    def snapshot(self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0) -> MemorySnapshot:
        """The slots of `cameras` (none given: all) that reach into the interval (0: no bound), by time."""
        shown = self._touched(cameras, Interval(since_ns, until_ns))
        slots = [one.slot for one in shown]
        oldest_ns = min((one.slot.time_ns for one in self._held), default=0)
        times = TimeIds(oldest_ns, self.newest[0], self.config.slot_period_ns, self.config.horizon_slots)
        none = torch.zeros(0, 0, 0)
        return MemorySnapshot(
            dam=torch.stack([slot.detail for slot in slots]) if slots else none,
            dam_times=times.of((slot.time_ns, 1) for slot in slots),
            csm=slots[0].low.new_zeros(0, *slots[0].low.shape) if slots else none,
            csm_times=torch.zeros(0, dtype=torch.float64),
            grid=slots[0].grid if slots else Grid(0, 0),
            entries=tuple(entry_of(one.slot) for one in shown),
            slots_seen=len(slots),
            text_slots=text_slots(times, len(slots), self.config),
            newest_ns=self.newest[1],
        )

    def listed(self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0) -> tuple[MemoryEntry, ...]:
        """The entries of `snapshot`, without its tensors."""
        return tuple(entry_of(one.slot) for one in self._touched(cameras, Interval(since_ns, until_ns)))

    def saw(self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0) -> bool:
        """Whether `snapshot` would show anything."""
        return bool(self._touched(cameras, Interval(since_ns, until_ns)))

    def _check_room(self, more: set[str]) -> None:
        cameras = {one.slot.camera for one in self._held} | more
        if self.every_camera and len(cameras) > self.capacity:
            raise ValueError(f"{len(cameras)} cameras need as many slots, and there are {self.capacity}")

    def _keep(self, held: list[Numbered]) -> None:
        self._held = self._chosen(sorted(held, key=lambda one: one.slot.time_ns))

    def _touched(self, cameras: Collection[str], interval: Interval) -> list[Numbered]:
        return [
            one
            for one in self._held
            if (not cameras or one.slot.camera in cameras) and interval.touches(one.slot.first_ns, one.slot.last_ns)
        ]


def entry_of(slot: Slot) -> MemoryEntry:
    """What a slot shows, as an entry of DAM."""
    times = slot.first_ns, slot.last_ns, 1.0
    pictured_ns = slot.thumbnail_ns or slot.last_ns
    return MemoryEntry(EntryKind.DAM, slot.camera, slot.frame_id, *times, slot.thumbnail, pictured_ns)
