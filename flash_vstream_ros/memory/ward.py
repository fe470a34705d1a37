"""Online Ward clustering: a stream of any length in at most `capacity` clusters.

Each item enters as a cluster of weight 1. If there is then one cluster too many, a pair is merged: the one that
increases the weighted k-means objective least, by w_i w_j / (w_i + w_j) * |c_i - c_j|^2 (Ward's criterion). Other
clusters do not change. A step is deterministic and costs one pass over the centroids, however long the stream is.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .state import MemoryState, UnsupportedState, on_cpu

# Elements of differences computed at once, which bounds the working memory of a step.
CHUNK_ELEMENTS = 1 << 24
TENSOR_NAMES = ("centroids", "weights", "squared", "mergeable", "masses")  # in the order of `tensors`


class Merge(NamedTuple):
    """Merge of two clusters: the row of the older one is `kept` for both, and row `absorbed` becomes free."""

    kept: int
    absorbed: int


class Insertion(NamedTuple):
    """Result of an insertion."""

    row: int  # of the new cluster
    merge: Merge | None


class WardClustering:
    """At most `capacity` clusters of items with `features` elements, in fixed rows of one tensor.

    A row identifies its cluster until the cluster is absorbed. Items of different groups never share a cluster.
    Centroids are float32 on `device`. The table of distances is float64 on the CPU, so that a step waits for the device
    only once, for one row of distances. Not thread safe.
    """

    def __init__(self, capacity: int, features: int, device: torch.device | str = "cpu") -> None:
        if capacity < 1:
            raise ValueError(f"Ward clustering needs a capacity of at least 1, not {capacity}")
        self.capacity = capacity
        rows = capacity + 1
        self.centroids = torch.zeros(rows, features, device=device)  # [rows, features]
        self.weights = torch.zeros(rows, dtype=torch.float64)  # [rows]; 0: a free row
        # The last column is the distance to zero, the squared norm; merges update it by the same rule.
        self._squared = torch.zeros(rows, rows + 1, dtype=torch.float64)
        self._birth = [0] * rows
        self._groups: list[Hashable] = [None] * rows
        self._mergeable = torch.zeros(rows, rows, dtype=torch.bool)
        self._inserted = 0

    @property
    def rows(self) -> list[int]:
        """Rows of the clusters, oldest cluster first."""
        return sorted(self.weights.nonzero().flatten().tolist(), key=lambda row: self._birth[row])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, for accounting."""
        return self.centroids, self.weights, self._squared, self._mergeable

    def squared_distances(self, rows: Sequence[int]) -> np.ndarray:
        """Copy of the squared distances [rows, rows] between the centroids in `rows`."""
        return self._squared.numpy()[np.ix_(rows, rows)]

    def squared_norm(self, row: int) -> float:
        """Squared norm of the centroid in `row`."""
        return float(self._squared[row, -1])

    def distances(self, item: Tensor) -> Tensor:
        """Squared distances [rows + 1] of `item` [features] to the centroid in each row; the last one is to zero.

        Computed from differences: the cheaper |a|^2 + |b|^2 - 2ab is inexact for near items and can be negative.
        """
        step = max(1, CHUNK_ELEMENTS // item.numel())
        to_rows = [(chunk - item).square().sum(1) for chunk in self.centroids.split(step)]
        return torch.cat([*to_rows, item.float().square().sum().unsqueeze(0)])

    def insert(self, item: Tensor, group: Hashable = None, distances: Sequence[float] | None = None) -> Insertion:
        """Insert `item` [features] and merge two clusters of one group if there is one too many.

        `distances` are the values of `self.distances(item)`, if the caller has computed them. The caller may add the
        squared differences of more coordinates, if it averages these coordinates like centroids.

        Raises ValueError and changes nothing if distances are not finite, or if `group` is new and each cluster belongs
        to a different group, so that no merge can make room.
        """
        rows = self.rows
        if len(rows) == self.capacity and len({self._groups[row] for row in rows} | {group}) > self.capacity:
            raise ValueError(
                f"no room for group {group!r}: each of {self.capacity} clusters belongs to a different group, and "
                "groups are never merged; raise the capacity or use fewer groups"
            )
        measured = self._measured(item, distances)
        if not bool(measured.isfinite().all()):
            raise ValueError("an item is not finite, or too large to be squared in float32; leave it out")

        row = int((self.weights == 0).int().argmax())
        self.centroids[row].copy_(item)
        self._set_weight(row, 1.0)
        self._squared[row] = measured
        self._squared[:, row] = measured[:-1]
        self._squared[row, row] = 0.0
        self._groups[row], self._birth[row] = group, self._inserted
        self._inserted += 1
        same = [other for other in rows if self._groups[other] == group]
        self._mergeable[row, same] = self._mergeable[same, row] = True
        return Insertion(row, next(self.reduce(self.capacity), None))

    def replace(self, row: int, centroid: Tensor, weight: int, distances: Sequence[float] | None = None) -> None:
        """Replace centroid [features] and weight of the cluster in `row`; for `distances` see `insert`."""
        measured = self._measured(centroid, distances)
        self.centroids[row].copy_(centroid)
        self._set_weight(row, float(weight))
        self._squared[row] = measured
        self._squared[:, row] = measured[:-1]
        self._squared[row, row] = 0.0

    def add_weight(self, row: int, weight: int) -> None:
        """Increase the weight of the cluster in `row` without moving its centroid."""
        self.weights.numpy()[row] += weight  # numpy: a torch operation costs 0.1 ms of overhead here

    def add_to_row(self, row: int, squared: np.ndarray) -> None:
        """Add `squared` [rows + 1] to the squared distances of `row`; the last one is to zero."""
        table = self._squared.numpy()
        moved = np.maximum(table[row] + squared, 0.0)
        table[row], table[:, row], table[row, row] = moved, moved[:-1], 0.0

    def add_to_distances(self, squared: Tensor) -> None:
        """Add `squared` [rows, rows + 1] to all squared distances; the last column is to zero."""
        self._squared.add_(squared).clamp_(min=0)

    def remove(self, row: int) -> None:
        """Free `row`."""
        self._set_weight(row, 0.0)
        self._mergeable[row] = self._mergeable[:, row] = False

    def zero_free_rows(self) -> None:
        """Overwrite centroids and distances left in free rows."""
        free = (self.weights == 0).nonzero().flatten()
        self.centroids[free.to(self.centroids.device)] = 0
        self._squared[free] = 0.0
        self._squared[:, free] = 0.0

    def reduce(self, count: int) -> Iterator[Merge]:
        """Merge down to at most `count` clusters, cheapest pair first; yields each merge once it is done.

        Raises ValueError and changes nothing if there are more groups than `count`.
        """
        rows = self.rows
        if len(groups := {self._groups[row] for row in rows}) > count:
            raise ValueError(f"{len(groups)} groups need a cluster each, and there would be {count}")
        if len(rows) <= count:
            return
        costs = self._costs(slice(None))
        cheapest = costs.min(1).values  # of each row; kept up to date, since scanning the table per merge is slow
        for clusters in range(len(rows) - 1, count - 1, -1):
            kept, absorbed = merge = self._merge(*self._cheapest_pair(costs, cheapest))
            yield merge
            if clusters == count:
                return
            outdated = cheapest.isfinite() & (cheapest >= costs[[kept, absorbed]].min(0).values)
            costs[absorbed] = costs[:, absorbed] = torch.inf
            costs[kept] = costs[:, kept] = self._costs(kept)
            cheapest = torch.minimum(cheapest, costs[kept])
            outdated[kept] = True
            cheapest[outdated] = costs[outdated].min(1).values

    def copy_from(self, other: WardClustering) -> dict[int, int]:
        """Copy the clusters of `other` into this empty clustering, oldest first. Maps old rows to new ones."""
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

    def state(self) -> MemoryState:
        """Copy of all rows. Groups must be strings."""
        tensors = {name: on_cpu(tensor) for name, tensor in zip(TENSOR_NAMES, self.tensors, strict=False)}
        return MemoryState(tensors, {"birth": self._birth, "groups": self._groups, "inserted": self._inserted})

    def restore(self, state: MemoryState) -> None:
        """Replace all rows by those of `state`, which must have the same size. Raises UnsupportedState."""
        values = state.values
        stored = [state.tensors[name] for name, _ in zip(TENSOR_NAMES, self.tensors, strict=False)]
        shapes = [tuple(tensor.shape) for tensor in stored]
        expected = [tuple(tensor.shape) for tensor in self.tensors]
        if shapes != expected or not (len(values["birth"]) == len(values["groups"]) == self.capacity + 1):
            raise UnsupportedState(
                f"the clustering needs tensors of shapes {expected}, and the saved ones are {shapes}"
            )
        for own, tensor in zip(self.tensors, stored, strict=True):
            own.copy_(tensor)
        self._birth, self._groups, self._inserted = [*values["birth"]], [*values["groups"]], values["inserted"]

    def _measured(self, item: Tensor, distances: Sequence[float] | None) -> Tensor:
        return torch.tensor(self.distances(item).tolist() if distances is None else distances, dtype=torch.float64)

    @property
    def _cost_weights(self) -> Tensor:
        """Weights [rows] from which the cost of a merge is computed."""
        return self.weights

    def _set_weight(self, row: int, weight: float) -> None:
        self.weights[row] = weight

    def _costs(self, row: int | slice) -> Tensor:
        """Increase of the objective if the cluster in `row` merges with each other one; inf: not mergeable."""
        weights = self._cost_weights
        i, j = weights[row, None], weights
        return torch.where(self._mergeable[row], i * j / (i + j) * self._squared[row, :-1], torch.inf)

    def _cheapest_pair(self, costs: Tensor, cheapest: Tensor) -> tuple[int, int]:
        """The pair whose merge costs least, older cluster first; ties go to the oldest pair."""
        least = cheapest.min()
        rows = (cheapest == least).nonzero().flatten().tolist()
        ties = [(row, other) for row in rows for other in (costs[row] == least).nonzero().flatten().tolist()]
        return min(ties, key=lambda pair: (self._birth[pair[0]], self._birth[pair[1]]))

    def _merge(self, kept: int, absorbed: int) -> Merge:
        weights = self.weights[[kept, absorbed]]
        total = float(weights.sum())
        share = float(weights[1]) / total
        self.centroids[kept].lerp_(self.centroids[absorbed], share)

        # The distance to a weighted mean follows from the distances to its parts (Lance-Williams).
        between = float(self._squared[kept, absorbed])
        to_both = torch.lerp(self._squared[kept], self._squared[absorbed], share) - share * (1 - share) * between
        self._squared[kept] = to_both.clamp_(min=0)
        self._squared[:, kept] = to_both[:-1]
        self._squared[kept, kept] = 0.0

        self.weights[kept], self.weights[absorbed] = total, 0.0
        self._mergeable[absorbed] = self._mergeable[:, absorbed] = False
        return Merge(kept, absorbed)
