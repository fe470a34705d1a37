"""Slots kept at full detail: where DAM comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .kmeans import TIE_SHARE
from .slot import EntryKind, Extension, MemoryEntry, Slot


@dataclass(frozen=True, eq=False)
class Exemplar:
    """A slot kept at full detail: its row in the pool and what is known about it."""

    row: int
    camera: str
    frame_id: str
    first_ns: int
    last_ns: int
    time_ns: int  # its place in the order of the memory: Slot.time_ns
    thumbnail: bytes
    pictured_ns: int  # stamp of the thumbnail

    def staying(self, stay: Extension) -> Exemplar:
        """The same, seen until the end of `stay`."""
        return replace(self, last_ns=stay.last_ns, time_ns=stay.time_ns)

    def entry(self) -> MemoryEntry:
        """What it shows, as an entry of DAM."""
        return MemoryEntry(
            kind=EntryKind.DAM,
            camera=self.camera,
            frame_id=self.frame_id,
            first_ns=self.first_ns,
            last_ns=self.last_ns,
            weight=1.0,
            thumbnail=self.thumbnail,
            thumbnail_ns=self.pictured_ns,
        )


class ExemplarPool:
    """A fixed number of rows for slots with features like these, each used again once its exemplar is let go.

    Begins with the exemplars of `before`, a smaller pool, in the same rows.
    """

    def __init__(self, rows: int, low: Tensor, detail: Tensor, before: ExemplarPool | None = None) -> None:
        self.low = low.new_zeros(rows, *low.shape)  # [rows, low_patches, dim]
        self.detail = detail.new_zeros(rows, *detail.shape)  # [rows, detail_tokens, width]
        self._free = list(range(rows))
        if before is not None:
            held = len(before.low)
            self.low[:held], self.detail[:held] = before.low, before.detail
            self._free = [*before._free, *range(held, rows)]

    def hold(self, slot: Slot) -> Exemplar:
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
        )

    def keep_only(self, exemplars: Collection[Exemplar]) -> None:
        used = {exemplar.row for exemplar in exemplars}
        self._free = [row for row in range(len(self.low)) if row not in used]

    def take_over(self, exemplars: Collection[Exemplar], other: ExemplarPool) -> dict[Exemplar, Exemplar]:
        """Fill this empty pool with `exemplars` of `other`; each of them with what stands for it here."""
        moved = {}
        for exemplar in exemplars:
            row = self._free.pop()
            self.low[row].copy_(other.low[exemplar.row])
            self.detail[row].copy_(other.detail[exemplar.row])
            moved[exemplar] = replace(exemplar, row=row)
        return moved

    def wipe_free(self) -> None:
        """Overwrite what the rows that nobody holds still show."""
        free = torch.tensor(self._free, dtype=torch.long, device=self.low.device)
        self.low[free] = 0
        self.detail[free] = 0

    def mean(self, exemplars: Sequence[Exemplar]) -> Tensor:
        """Mean of their low-resolution maps [low_patches * dim], float32; of one, its map exactly."""
        return self.low[self._index(exemplars)].flatten(1).float().mean(0)

    def details(self, exemplars: Sequence[Exemplar]) -> Tensor:
        """A copy [exemplars, detail_tokens, width]."""
        return self.detail[self._index(exemplars)]

    def nearest(self, exemplars: Sequence[Exemplar], centroid: Tensor, count: int) -> list[Exemplar]:
        """Up to `count` of `exemplars`, nearest to `centroid` [low_patches * dim] first; ties to the earlier.

        Both slots of a pair are equally near to their mean, so what differs by rounding alone is a tie.
        """
        left = sorted(exemplars, key=lambda exemplar: exemplar.time_ns)
        squared = (self.low[self._index(left)].flatten(1) - centroid).square().sum(1)
        *distances, norm = torch.cat([squared, centroid.square().sum().unsqueeze(0)]).tolist()
        found: list[Exemplar] = []
        while left and len(found) < count:
            bound = min(distances) + TIE_SHARE * norm
            best = next(i for i, distance in enumerate(distances) if distance <= bound)
            found.append(left.pop(best))
            distances.pop(best)
        return found

    def _index(self, exemplars: Sequence[Exemplar]) -> Tensor:
        return torch.tensor([e.row for e in exemplars], dtype=torch.long, device=self.low.device)


def newest_of_each(recent: dict[Exemplar, int], count: int) -> dict[Exemplar, int]:
    """The last `count` of `recent` of each camera."""
    left, kept = Counter({exemplar.camera: count for exemplar in recent}), []
    for exemplar in reversed(recent):
        if left[exemplar.camera] > 0:
            kept.append(exemplar)
            left[exemplar.camera] -= 1
    return {exemplar: recent[exemplar] for exemplar in reversed(kept)}
