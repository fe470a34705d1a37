"""Snapshots of memories that keep single tokens of slots."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .slot import Grid, MemorySnapshot


class TokenMap(NamedTuple):
    """The token map of a slot in detail; a place is a number from 0 to `size` - 1, in the order of `Slot.detail`."""

    planes: int  # 1 where a slot is one map; 2 where it has the maps of two frames
    rows: int
    columns: int

    @property
    def size(self) -> int:
        return self.planes * self.rows * self.columns

    @classmethod
    def of(cls, grid: Grid, tokens: int) -> TokenMap:
        """The map of a slot with this grid and number of tokens: merged 2x2, or one or more maps of the grid's size."""
        patches = grid.height * grid.width
        if tokens * 4 == patches:
            return cls(1, grid.height // 2, grid.width // 2)
        if tokens % patches == 0:
            return cls(tokens // patches, grid.height, grid.width)
        return cls(1, 1, tokens)


@dataclass(frozen=True, eq=False)
class TokenSnapshot(MemorySnapshot):
    """A snapshot of slots of which some tokens were dropped; `dam` and `csm` are empty.

    `dam_times` and `entries` have one element for each slot.
    """

    tokens: Tensor = field(kw_only=True)  # [tokens, width] in detail, after the merger; those of one slot in sequence
    places: Tensor = field(kw_only=True)  # [tokens] int64 on the CPU: place of each token in the map of its slot
    counts: tuple[int, ...] = field(kw_only=True)  # number of tokens of each slot

    def without_features(self) -> MemorySnapshot:
        return replace(self, tokens=self.tokens.new_zeros(0, 0))

    def completed(self, size: int) -> Tensor:
        """Maps [slots, size, width]: each missing token is the latest earlier one at its place, or else the next one.

        For one camera. Places that no slot has a token of are zero.
        """
        maps = self.tokens.new_zeros(len(self.counts), size, self.tokens.shape[1])
        known = torch.zeros(len(self.counts), size, dtype=torch.bool)
        owner = torch.repeat_interleave(torch.arange(len(self.counts)), torch.tensor(self.counts, dtype=torch.long))
        maps[owner, self.places], known[owner, self.places] = self.tokens, True
        for order in (range(1, len(maps)), range(len(maps) - 2, -1, -1)):
            step = order.step
            for row in order:
                missing = ~known[row] & known[row - step]
                maps[row, missing] = maps[row - step, missing]
                known[row] |= missing
        return maps
