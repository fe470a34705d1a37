"""Input of the memory (Slot) and its output (MemorySnapshot)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from .pose import NO_POSE, MaybePose
from .region import NOWHERE, Region


class Grid(NamedTuple):
    """Size of one slot in high-resolution patches; both sides are multiples of 4 (2x2 pooling, 2x2 merging)."""

    height: int
    width: int


@dataclass(frozen=True, eq=False)
class Slot:
    """Features of two consecutive sampled frames of one camera. Stamps are message time in ns.

    The memory orders slots by time and reports their stamps. The time is stamp + `shift_ns`; the shift is 0 unless the
    camera's stamps jumped back and its memory was kept.
    """

    camera: str
    frame_id: str  # of the second frame
    first_ns: int
    last_ns: int
    low: Tensor  # [low_patches, dim] output of the vision tower at half resolution, before the merger
    detail: Tensor  # [detail_tokens, width] high resolution, after the merger, in the language model's width
    grid: Grid
    thumbnail: bytes = b""  # JPEG of the second frame
    shift_ns: int = 0  # time - stamp
    thumbnail_ns: int = 0  # stamp of the thumbnail; 0: last_ns
    pose: MaybePose = NO_POSE  # at the stamp of the thumbnail
    static_region: Region | None = None  # of the static slots that extended it; None: none did

    @property
    def time_ns(self) -> int:
        """Time of the slot [ns]; the memory is ordered by it."""
        return self.last_ns + self.shift_ns

    @property
    def oldest_ns(self) -> int:
        """Time [ns], under the name that clusters use for their earliest slot."""
        return self.time_ns

    @property
    def newest(self) -> tuple[int, int]:
        """Time and stamp [ns], under the name that clusters use for their latest slot."""
        return self.time_ns, self.last_ns

    @property
    def region(self) -> Region:
        """Its position, and those of the static slots that extended it."""
        return Region.grown(self.pose, self.static_region)

    def entry(self) -> MemoryEntry:
        """Describe the slot as a DAM entry."""
        return MemoryEntry(
            kind=EntryKind.DAM,
            camera=self.camera,
            frame_id=self.frame_id,
            first_ns=self.first_ns,
            last_ns=self.last_ns,
            weight=1.0,
            thumbnail=self.thumbnail,
            thumbnail_ns=self.thumbnail_ns or self.last_ns,
            pose=self.pose,
            region=self.region,
        )

    def extended(self, extension: Extension) -> Slot:
        """The same slot, lasting until the end of `extension`."""
        return replace(
            self,
            last_ns=extension.last_ns,
            thumbnail_ns=self.thumbnail_ns or self.last_ns,
            static_region=extension.region_after(self.static_region),
        )


class Extension(NamedTuple):
    """Static slots after a camera's newest slot. Stamps and times as in Slot [ns]."""

    slots: int
    time_sum: int  # sum of the times of these slots
    time_ns: int  # time of the last one
    last_ns: int  # stamp of the last one
    region: Region = NOWHERE  # of their positions

    def followed_by(self, later: Extension) -> Extension:
        """Both extensions as one."""
        slots, time_sum = self.slots + later.slots, self.time_sum + later.time_sum
        return Extension(slots, time_sum, later.time_ns, later.last_ns, later.region_after(self.region))

    def region_after(self, before: Region | None) -> Region:
        """The region of these static slots and of those before; None: there are none before."""
        return self.region if before is None else Region.union((before, self.region))


class EntryKind(IntEnum):
    """The memory that an entry belongs to; values as in msg/MemoryEntry."""

    CSM = 0
    DAM = 1


@dataclass(frozen=True)
class MemoryEntry:
    """Description of one block of visual tokens: a cluster of slots (CSM) or one key slot (DAM)."""

    kind: EntryKind
    camera: str
    frame_id: str
    first_ns: int
    last_ns: int
    weight: float  # number of slots represented; 1 for a DAM entry
    thumbnail: bytes
    thumbnail_ns: int
    pose: MaybePose = NO_POSE  # at `thumbnail_ns`
    region: Region = NOWHERE  # of all slots represented


@dataclass(frozen=True, eq=False)
class MemorySnapshot:
    """Copy of the memory at one moment; later inserts do not change it."""

    dam: Tensor  # [dam_slots, detail_tokens, width]
    dam_times: Tensor  # [dam_slots] float64, in slots since the memory's origin, scaled to the horizon
    csm: Tensor  # [csm_slots, low_patches, dim] before the merger, ordered by time
    csm_times: Tensor  # [csm_slots] float64, same unit
    grid: Grid  # of all slots; 0x0 before the first
    entries: tuple[MemoryEntry, ...]  # those of `dam`, then those of `csm`
    slots_seen: int  # number of slots represented
    text_slots: int  # time ids reserved for CSM before the text; published: min(slots_seen, CSM capacity)
    newest_ns: int = 0  # stamp of the newest frame of the whole memory, whatever the scope
    slot_s: float = 2.0  # length of a slot [s]
    time_scale: float = 1.0  # factor applied to the times to fit the horizon

    def without_features(self) -> MemorySnapshot:
        """The same snapshot with empty tensors, which takes hardly any memory."""
        return replace(self, dam=self.dam.new_zeros(0, 0, 0), csm=self.csm.new_zeros(0, 0, 0))

    @property
    def empty(self) -> bool:
        return not self.entries

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras represented, sorted by name."""
        return tuple(sorted({entry.camera for entry in self.entries}))

    def seconds(self, times: Tensor) -> Tensor:
        """Convert `dam_times` or `csm_times` to seconds since the first frame, at the middle of each slot."""
        return (times / self.time_scale + 0.25) * self.slot_s

    @property
    def first_ns(self) -> int:
        """Stamp of the oldest frame represented [ns]; 0 when empty."""
        return min((entry.first_ns for entry in self.entries), default=0)

    @property
    def last_ns(self) -> int:
        """Stamp of the newest frame represented [ns]; 0 when empty."""
        return max((entry.last_ns for entry in self.entries), default=0)


def empty_snapshot(slot_s: float = 2.0) -> MemorySnapshot:
    """Snapshot of an empty memory whose slots are `slot_s` seconds long."""
    none, never = torch.zeros(0, 0, 0), torch.zeros(0, dtype=torch.float64)
    return MemorySnapshot(none, never, none, never, Grid(0, 0), (), 0, 0, slot_s=slot_s)
