"""Ward clustering that preserves rare events.

The cost of a merge depends on the square roots of the weights. So light clusters are not always merged first, however
heavy others become. A transient item counts less: it resembles neither its predecessor nor its successor, for example
while the camera turns.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .ward import Merge, WardClustering

COST_EXPONENT = 0.5  # of weights in the cost of a merge
TRANSIENT_MASS = 0.2  # mass of a transient item; others have 1


class SublinearWard(WardClustering):
    """Ward clustering whose merge costs depend on masses: weights, except that transient items count less.

    Centroids stay weighted means of all items.
    """

    def __init__(self, capacity: int, features: int, device: torch.device | str = "cpu") -> None:
        super().__init__(capacity, features, device)
        self._masses = torch.zeros(capacity + 1, dtype=torch.float64)  # [rows]; 0: a free row

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (*super().tensors, self._masses)

    def spacing(self) -> float:
        """Median squared distance of a cluster to the nearest of its group; inf if no group has two."""
        squared = np.where(self._mergeable.numpy(), self._squared.numpy()[:, :-1], np.inf).min(1)
        finite = squared[np.isfinite(squared)]
        return float(np.median(finite)) if len(finite) else float("inf")

    def mark_transient(self, row: int) -> None:
        """Let the single item in `row` count less in the cost of merges."""
        self._masses[row] = TRANSIENT_MASS

    def is_transient(self, row: int) -> bool:
        """Returns True if all items in `row` are transient."""
        return float(self._masses[row]) < TRANSIENT_MASS * float(self.weights[row]) * (1 + 1e-9)

    def add_weight(self, row: int, weight: int) -> None:
        super().add_weight(row, weight)
        self._masses.numpy()[row] += weight

    def copy_from(self, other: WardClustering) -> dict[int, int]:
        rows = super().copy_from(other)
        masses = other._masses if isinstance(other, SublinearWard) else other.weights
        self._masses[: len(rows)] = masses[list(rows)]
        return rows

    @property
    def _cost_weights(self) -> Tensor:
        return self._masses.pow(COST_EXPONENT)

    def _set_weight(self, row: int, weight: float) -> None:
        super()._set_weight(row, weight)
        self._masses[row] = weight

    def _merge(self, kept: int, absorbed: int) -> Merge:
        merge = super()._merge(kept, absorbed)
        self._masses[kept] += self._masses[absorbed]
        self._masses[absorbed] = 0.0
        return merge
