"""Online Ward clustering: a stream of any length in at most `capacity` clusters.

Each item enters as a cluster of weight 1. When there is one cluster too many, the pair whose union adds least to
the weighted k-means objective, w_i w_j / (w_i + w_j) * |c_i - c_j|^2, becomes one (Ward's criterion). All other
clusters stay as they are. A step costs one pass over the centroids, whatever came before, and no random choice.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Differences are formed for this many elements at a time, which bounds the working memory of a step.
CHUNK_ELEMENTS = 1 << 24


class Merge(NamedTuple):
    """Two rows became one: `absorbed` is free now, `kept` (the one that was there first) stands for both."""

    kept: int
    absorbed: int


class Insertion(NamedTuple):
    row: int  # where the item entered
    merge: Merge | None


class WardClustering:
    """Clusters in fixed rows of one tensor; a row is its cluster's identity until that is absorbed.

    `capacity` clusters of items with `features` elements. Items of different groups never share a cluster.
    Centroids are float32 on `device`; what decides on merges is small, float64 and on the host, so that a step
    waits for the device once, to read one row of distances. Not thread safe.
    """

    def __init__(self, capacity: int, features: int, device: torch.device | str = "cpu") -> None:
        if capacity < 1:
            raise ValueError(f"Ward clustering needs a capacity of at least 1, not {capacity}")
        self.capacity = capacity
        rows = capacity + 1
        self.centroids = torch.zeros(rows, features, device=device)  # [rows, features]
        self.weights = torch.zeros(rows, dtype=torch.float64)  # [rows]; 0: a free row
        # The last column is the distance to zero, the squared norm: merges move it by the same rule.
        self._squared = torch.zeros(rows, rows + 1, dtype=torch.float64)
        self._birth = [0] * rows
        self._groups: list[Hashable] = [None] * rows
        self._mergeable = torch.zeros(rows, rows, dtype=torch.bool)
        self._inserted = 0

    @property
    def rows(self) -> list[int]:
        """Rows of the clusters, first born first."""
        return sorted(self.weights.nonzero().flatten().tolist(), key=lambda row: self._birth[row])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that is held, for accounting."""
        return self.centroids, self.weights, self._squared, self._mergeable

    def squared_norm(self, row: int) -> float:
        """Squared length of the centroid in `row`."""
        return float(self._squared[row, -1])

    def distances(self, item: Tensor) -> Tensor:
        """Squared distances [rows + 1] of `item` [features] to the centroid in each row, then to zero (its norm).

        Formed from differences: the cheaper |a|^2 + |b|^2 - 2ab cancels for near items, down to below zero.
        """
        step = max(1, CHUNK_ELEMENTS // item.numel())
        to_rows = [(chunk - item).square().sum(1) for chunk in self.centroids.split(step)]
        return torch.cat([*to_rows, item.float().square().sum().unsqueeze(0)])

    def insert(self, item: Tensor, group: Hashable = None, distances: Sequence[float] | None = None) -> Insertion:
        """Take in `item` [features], merging two clusters of one group where there is no room for one more.

        `distances` are the values of `self.distances(item)` where the caller has read them already, or those with
        coordinates of its own added, which must be means as the centroids are.
        Raises ValueError, and changes nothing, when they are not finite, or when `group` is new and
        every cluster belongs to another group, so that no merge could make room.
        """
        rows = self.rows
        if len(rows) == self.capacity and len({self._groups[row] for row in rows} | {group}) > self.capacity:
            raise ValueError(
                f"group {group!r} finds no place: each of {self.capacity} clusters belongs to another group, and "
                "groups are never merged; raise the capacity or use fewer groups"
            )
        measured = self._measured(item, distances)
        if not bool(measured.isfinite().all()):
            raise ValueError("an item is not finite, or too large to be squared in float32; leave it out")

        row = int((self.weights == 0).int().argmax())
        self.centroids[row].copy_(item)
        self.weights[row] = 1.0
        self._squared[row] = measured
        self._squared[:, row] = measured[:-1]
        self._squared[row, row] = 0.0
        self._groups[row], self._birth[row] = group, self._inserted
        self._inserted += 1
        same = [other for other in rows if self._groups[other] == group]
        self._mergeable[row, same] = self._mergeable[same, row] = True
        return Insertion(row, next(self.reduce(self.capacity), None))

    def replace(self, row: int, centroid: Tensor, weight: int, distances: Sequence[float] | None = None) -> None:
        """Give the cluster in `row` another centroid [features] and weight, as if it had had no other members.

        `distances` are as in `insert`.
        """
        measured = self._measured(centroid, distances)
        self.centroids[row].copy_(centroid)
        self.weights[row] = float(weight)
        self._squared[row] = measured
        self._squared[:, row] = measured[:-1]
        self._squared[row, row] = 0.0

    def gain(self, row: int, weight: int) -> None:
        """Let the cluster in `row` weigh more, its centroid being where it is."""
        self.weights.numpy()[row] += weight  # torch takes a tenth of a millisecond to begin with anything

    def shift(self, row: int, squared: np.ndarray) -> None:
        """Add to the squared distances of `row` [rows + 1], the last to zero: it has moved along a coordinate."""
        table = self._squared.numpy()
        moved = np.maximum(table[row] + squared, 0.0)
        table[row], table[:, row], table[row, row] = moved, moved[:-1], 0.0

    def add(self, squared: Tensor) -> None:
        """Add to all squared distances [rows, rows + 1], the last to zero: a coordinate counts more, or less."""
        self._squared.add_(squared).clamp_(min=0)

    def remove(self, row: int) -> None:
        """Free `row`, whatever was in it."""
        self.weights[row] = 0.0
        self._mergeable[row] = self._mergeable[:, row] = False

    def wipe_free(self) -> None:
        """Overwrite what the free rows still show of clusters that were removed or absorbed."""
        free = (self.weights == 0).nonzero().flatten()
        self.centroids[free.to(self.centroids.device)] = 0
        self._squared[free] = 0.0
        self._squared[:, free] = 0.0

    def reduce(self, count: int) -> Iterator[Merge]:
        """Merge down to at most `count` clusters, the cheapest pair first; each merge as it is done.

        Raises ValueError, and changes nothing, when there are more groups than that.
        """
        rows = self.rows
        if len(groups := {self._groups[row] for row in rows}) > count:
            raise ValueError(f"{len(groups)} groups need a cluster each, and there would be {count}")
        if len(rows) <= count:
            return
        costs = self._costs(slice(None))
        cheapest = costs.min(1).values  # of each row; kept up to date, so that a merge costs rows and not a table
        for left in range(len(rows) - 1, count - 1, -1):
            kept, absorbed = merge = self._merge(*self._cheapest_pair(costs, cheapest))
            yield merge
            if left == count:
                return
            outdated = cheapest.isfinite() & (cheapest >= costs[[kept, absorbed]].min(0).values)
            costs[absorbed] = costs[:, absorbed] = torch.inf
            costs[kept] = costs[:, kept] = self._costs(kept)
            cheapest = torch.minimum(cheapest, costs[kept])
            outdated[kept] = True
            cheapest[outdated] = costs[outdated].min(1).values

    def take_over(self, other: WardClustering) -> dict[int, int]:
        """Fill this empty clustering with the clusters of `other`, first born first; its rows to those here."""
        theirs = other.rows
        if len(theirs) > self.capacity or self._inserted:
            raise ValueError(f"{len(theirs)} clusters do not fit into {self.capacity} rows that must all be free")
        ours = len(theirs)
        for row, origin in enumerate(theirs):
            self.centroids[row].copy_(other.centroids[origin])
        self.weights[:ours] = other.weights[theirs]
        self._squared[:ours, :ours] = other._squared[theirs][:, theirs]
        self._squared[:ours, -1] = other._squared[theirs, -1]
        self._mergeable[:ours, :ours] = other._mergeable[theirs][:, theirs]
        self._birth[:ours] = [other._birth[row] for row in theirs]
        self._groups[:ours] = [other._groups[row] for row in theirs]
        self._inserted = other._inserted
        return {origin: row for row, origin in enumerate(theirs)}

    def _measured(self, item: Tensor, distances: Sequence[float] | None) -> Tensor:
        return torch.tensor(self.distances(item).tolist() if distances is None else distances, dtype=torch.float64)

    def _costs(self, row: int | slice) -> Tensor:
        """What the union of the cluster in `row` with each other would add to the objective; inf: not to be merged."""
        i, j = self.weights[row, None], self.weights
        return torch.where(self._mergeable[row], i * j / (i + j) * self._squared[row, :-1], torch.inf)

    def _cheapest_pair(self, costs: Tensor, cheapest: Tensor) -> tuple[int, int]:
        """The pair whose union costs least, first born first; ties go to the pair born first."""
        least = cheapest.min()
        rows = (cheapest == least).nonzero().flatten().tolist()
        ties = [(row, other) for row in rows for other in (costs[row] == least).nonzero().flatten().tolist()]
        return min(ties, key=lambda pair: (self._birth[pair[0]], self._birth[pair[1]]))

    def _merge(self, kept: int, absorbed: int) -> Merge:
        weights = self.weights[[kept, absorbed]]
        total = float(weights.sum())
        share = float(weights[1]) / total
        self.centroids[kept].lerp_(self.centroids[absorbed], share)

        # Distances to a weighted mean follow from those to its parts (Lance and Williams), without another pass.
        between = float(self._squared[kept, absorbed])
        to_both = torch.lerp(self._squared[kept], self._squared[absorbed], share) - share * (1 - share) * between
        self._squared[kept] = to_both.clamp_(min=0)
        self._squared[:, kept] = to_both[:-1]
        self._squared[kept, kept] = 0.0

        self.weights[kept], self.weights[absorbed] = total, 0.0
        self._mergeable[absorbed] = self._mergeable[:, absorbed] = False
        return Merge(kept, absorbed)
