"""Slots stored at full detail: the candidates for DAM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .kmeans import TIE_SHARE
from .pose import NO_POSE, MaybePose
from .region import Region
from .slot import EntryKind, Extension, MemoryEntry, Slot


@dataclass(frozen=True, eq=False)
class Exemplar:
    """A slot stored at full detail: its row in the pool and its metadata."""

    row: int
    camera: str
    frame_id: str
    first_ns: int
    last_ns: int
    time_ns: int  # as Slot.time_ns
    thumbnail: bytes
    thumbnail_ns: int  # stamp of the thumbnail
    pose: MaybePose = NO_POSE  # as Slot.pose
    static_region: Region | None = None  # as Slot.static_region

    @property
    def region(self) -> Region:
        """As Slot.region."""
        return Region.grown(self.pose, self.static_region)

    def extended(self, extension: Extension) -> Exemplar:
        """The same exemplar, lasting until the end of `extension`."""
        static_region = extension.region_after(self.static_region)
        return replace(self, last_ns=extension.last_ns, time_ns=extension.time_ns, static_region=static_region)

    def entry(self) -> MemoryEntry:
        """Describe the exemplar as a DAM entry."""
        return MemoryEntry(
            kind=EntryKind.DAM,
            camera=self.camera,
            frame_id=self.frame_id,
            first_ns=self.first_ns,
            last_ns=self.last_ns,
            weight=1.0,
            thumbnail=self.thumbnail,
            thumbnail_ns=self.thumbnail_ns,
            pose=self.pose,
            region=self.region,
        )


class ExemplarPool:
    """Preallocated features of a fixed number of slots; rows are reused.

    With `before`, a smaller pool, the new pool starts with its exemplars in the same rows.
    """

    def __init__(self, rows: int, low: Tensor, detail: Tensor, before: ExemplarPool | None = None) -> None:
        self.low = low.new_zeros(rows, *low.shape)  # [rows, low_patches, dim]
        self.detail = detail.new_zeros(rows, *detail.shape)  # [rows, detail_tokens, width]
        self._free = list(range(rows))
        if before is not None:
            used = len(before.low)
            self.low[:used], self.detail[:used] = before.low, before.detail
            self._free = [*before._free, *range(used, rows)]

    def store(self, slot: Slot) -> Exemplar:
        """Copy the features of `slot` into a free row."""
        row = self._free.pop()
        self.low[row].copy_(slot.low)
        self.detail[row].copy_(slot.detail)
        return Exemplar(
            row,
            slot.camera,
            slot.frame_id,
            slot.first_ns,
            slot.last_ns,
            slot.time_ns,
            slot.thumbnail,
            slot.thumbnail_ns or slot.last_ns,
            slot.pose,
            slot.static_region,
        )

    def free_all_except(self, exemplars: Collection[Exemplar]) -> None:
        """Free every row that none of `exemplars` uses."""
        used = {exemplar.row for exemplar in exemplars}
        self._free = [row for row in range(len(self.low)) if row not in used]

    def copy_from(self, other: ExemplarPool, exemplars: Collection[Exemplar]) -> dict[Exemplar, Exemplar]:
        """Copy `exemplars` of `other` into this empty pool; returns the copy of each."""
        copies = {}
        for exemplar in exemplars:
            row = self._free.pop()
            self.low[row].copy_(other.low[exemplar.row])
            self.detail[row].copy_(other.detail[exemplar.row])
            copies[exemplar] = replace(exemplar, row=row)
        return copies

    def zero_free_rows(self) -> None:
        """Overwrite features left in free rows."""
        free = torch.tensor(self._free, dtype=torch.long, device=self.low.device)
        self.low[free] = 0
        self.detail[free] = 0

    def mean(self, exemplars: Sequence[Exemplar]) -> Tensor:
        """Mean of their low-resolution maps [low_patches * dim], float32; exact for a single exemplar."""
        return self.low[self._index(exemplars)].flatten(1).float().mean(0)

    def details(self, exemplars: Sequence[Exemplar]) -> Tensor:
        """Copy of their detail features [exemplars, detail_tokens, width]."""
        return self.detail[self._index(exemplars)]

    def nearest(self, exemplars: Sequence[Exemplar], centroid: Tensor, count: int) -> list[Exemplar]:
        """The `count` exemplars nearest to `centroid` [low_patches * dim], nearest first; ties go to the earlier one.

        Distances that differ only by rounding are ties: two slots are equally near to their mean.
        """
        remaining = sorted(exemplars, key=lambda exemplar: exemplar.time_ns)
        squared = (self.low[self._index(remaining)].flatten(1) - centroid).square().sum(1)
        *distances, norm = torch.cat([squared, centroid.square().sum().unsqueeze(0)]).tolist()
        nearest: list[Exemplar] = []
        while remaining and len(nearest) < count:
            bound = min(distances) + TIE_SHARE * norm
            best = next(i for i, distance in enumerate(distances) if distance <= bound)
            nearest.append(remaining.pop(best))
            distances.pop(best)
        return nearest

    def _index(self, exemplars: Sequence[Exemplar]) -> Tensor:
        return torch.tensor([e.row for e in exemplars], dtype=torch.long, device=self.low.device)


def keep_newest(recent: dict[Exemplar, int], count: int) -> dict[Exemplar, int]:
    """The last `count` exemplars of each camera; `recent` is ordered oldest first."""
    room, kept = Counter({exemplar.camera: count for exemplar in recent}), []
    for exemplar in reversed(recent):
        if room[exemplar.camera] > 0:
            kept.append(exemplar)
            room[exemplar.camera] -= 1
    return {exemplar: recent[exemplar] for exemplar in reversed(kept)}
