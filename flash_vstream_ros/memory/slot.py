"""What enters the memory (Slot) and what leaves it (MemorySnapshot)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor


class Grid(NamedTuple):
    """High-resolution patches of one slot; both sides are multiples of 4 (2x2 pooling, 2x2 merging)."""

    height: int
    width: int


@dataclass(frozen=True, eq=False)
class Slot:
    """What a model makes of two consecutive sampled frames of one camera. Stamps are message time in ns.

    Where a camera's stamps jumped back and its memory goes on all the same, `shift_ns` puts the slot in its place:
    the memory keeps its slots in the order of their times, and reports their stamps.
    """

    camera: str
    frame_id: str  # of the second frame
    first_ns: int
    last_ns: int
    low: Tensor  # [low_patches, dim] vision tower output at half resolution, before the merger
    detail: Tensor  # [detail_tokens, width] high resolution, already merged to the language model's width
    grid: Grid
    thumbnail: bytes = b""  # JPEG of the second frame
    shift_ns: int = 0  # time less stamp
    thumbnail_ns: int = 0  # stamp of the thumbnail; 0: last_ns

    @property
    def time_ns(self) -> int:
        """Its place in the order of the memory."""
        return self.last_ns + self.shift_ns

    @property
    def oldest_ns(self) -> int:
        """The time of the earliest slot of it, as of other parts of a memory: its own."""
        return self.time_ns

    @property
    def newest(self) -> tuple[int, int]:
        """Time and stamp of the latest slot of it: its own."""
        return self.time_ns, self.last_ns

    def entry(self) -> MemoryEntry:
        """What it shows, as an entry of DAM."""
        times, pictured_ns = (self.first_ns, self.last_ns, 1.0), self.thumbnail_ns or self.last_ns
        return MemoryEntry(EntryKind.DAM, self.camera, self.frame_id, *times, self.thumbnail, pictured_ns)

    def staying(self, stay: Extension) -> Slot:
        """The same, seen until the end of `stay`."""
        return replace(self, last_ns=stay.last_ns, thumbnail_ns=self.thumbnail_ns or self.last_ns)


class Extension(NamedTuple):
    """More slots in which a camera saw its newest one again. Stamps and times as those of a Slot, in ns."""

    slots: int
    time_sum: int  # of the times of these slots
    time_ns: int  # of the last of them
    last_ns: int  # its stamp

    def joined(self, later: Extension) -> Extension:
        """Both, one behind the other."""
        return Extension(self.slots + later.slots, self.time_sum + later.time_sum, later.time_ns, later.last_ns)


class EntryKind(IntEnum):
    """Which of the two memories an entry belongs to; the values are those of msg/MemoryEntry."""

    CSM = 0
    DAM = 1


@dataclass(frozen=True)
class MemoryEntry:
    """What one block of visual tokens stands for: a cluster of slots (CSM) or one key slot (DAM)."""

    kind: EntryKind
    camera: str
    frame_id: str
    first_ns: int
    last_ns: int
    weight: float  # slots that this block stands for; a DAM entry shows one
    thumbnail: bytes
    thumbnail_ns: int


@dataclass(frozen=True, eq=False)
class MemorySnapshot:
    """The memory at one moment. Its tensors are copies: later inserts do not change them."""

    dam: Tensor  # [dam_slots, detail_tokens, width]
    dam_times: Tensor  # [dam_slots] float64, slots since the memory's origin, scaled to the horizon
    csm: Tensor  # [csm_slots, low_patches, dim] before the merger, ordered by time
    csm_times: Tensor  # [csm_slots] float64, same unit
    grid: Grid  # of its slots; 0x0 before the first
    entries: tuple[MemoryEntry, ...]  # in the order of dam, then in the order of csm
    slots_seen: int  # slots that the snapshot stands for
    text_slots: int  # time ids that the text after it leaves to CSM; published: min(slots_seen, CSM capacity)
    newest_ns: int = 0  # stamp of the newest frame of the whole memory, shown or not
    slot_s: float = 2.0  # length of a slot [s]
    time_scale: float = 1.0  # what the times were multiplied with to fit the horizon

    def without_features(self) -> MemorySnapshot:
        """What it is told of, which takes hardly any memory."""
        return replace(self, dam=self.dam.new_zeros(0, 0, 0), csm=self.csm.new_zeros(0, 0, 0))

    @property
    def empty(self) -> bool:
        return not self.entries

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras that it stands for, by name."""
        return tuple(sorted({entry.camera for entry in self.entries}))

    def seconds(self, times: Tensor) -> Tensor:
        """`dam_times` or `csm_times` as the seconds from the first frame to the middle of each slot's two."""
        return (times / self.time_scale + 0.25) * self.slot_s

    @property
    def first_ns(self) -> int:
        """Stamp of the oldest frame that it stands for [ns]; 0 when empty."""
        return min((entry.first_ns for entry in self.entries), default=0)

    @property
    def last_ns(self) -> int:
        """Stamp of the newest frame that it stands for [ns]; 0 when empty."""
        return max((entry.last_ns for entry in self.entries), default=0)


def nothing_seen(slot_s: float = 2.0) -> MemorySnapshot:
    """What a memory without features shows; slots are `slot_s` seconds long."""
    none, never = torch.zeros(0, 0, 0), torch.zeros(0, dtype=torch.float64)
    return MemorySnapshot(none, never, none, never, Grid(0, 0), (), 0, 0, slot_s=slot_s)
