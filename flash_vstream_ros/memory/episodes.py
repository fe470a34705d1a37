"""Time as one more coordinate of the clustering, beside those of appearance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .config import FlashMemoryConfig
from .exemplars import Exemplar
from .slot import Slot
from .time_ids import mean_slots

Times = tuple[int, int]  # sum of some times [ns], and their number


class FirstView(NamedTuple):
    """The view from which and by which time is measured: the first that the memory still knows of."""

    camera: str = ""
    first_ns: int = 0  # stamps of its frames
    last_ns: int = 0
    time_ns: int = 0
    squared_norm: float = 0.0  # of its low-resolution map

    @classmethod
    def of(cls, view: Slot | Exemplar, squared_norm: float) -> FirstView:
        return cls(view.camera, view.first_ns, view.last_ns, view.time_ns, squared_norm)


class EpisodeTime(NamedTuple):
    """Equal views `episode_slots` apart are as different as the first view is from zero; 0: not at all."""

    first: FirstView = FirstView()
    episode_slots: float = 0.0
    slot_period_ns: int = 1

    @classmethod
    def of(cls, first: FirstView, config: FlashMemoryConfig) -> EpisodeTime:
        return cls(first, config.episode_slots, config.slot_period_ns)

    @property
    def slot_apart(self) -> float:
        """Squared distance of equal views one slot apart; 0: time does not count."""
        return self.first.squared_norm / self.episode_slots**2 if self.episode_slots else 0.0

    def since_zero(self, *times: Times | None, missing: float = 0.0) -> list[float]:
        """Each mean time since the first view [slots]; `missing` where there is none."""
        zero_ns, period_ns = self.first.time_ns, self.slot_period_ns
        return [missing if each is None else mean_slots(*each, zero_ns, period_ns) for each in times]

    def squared(self, times: Times) -> float:
        """What time has in the squared length of a mean."""
        (coordinate,) = self.since_zero(times)
        return self.slot_apart * coordinate**2

    def apart(self, distances: Sequence[float], now: Times, then: Sequence[Times | None]) -> list[float]:
        """Squared distances by appearance and time: `distances` are by appearance, to others and last to zero.

        `now` is when it was seen, `then` when the others were; None: no one.
        """
        slot_apart = self.slot_apart
        if not slot_apart:
            return list(distances)
        (at,) = self.since_zero(now)
        coordinates = [*self.since_zero(*then, missing=at), 0.0]
        return [
            distance + slot_apart * (at - other) ** 2 for distance, other in zip(distances, coordinates, strict=True)
        ]

    def shifted(self, before: Times, now: Times, others: Sequence[Times | None]) -> np.ndarray:
        """What is added to squared distances to others, and last to zero, by what was seen `before` and then `now`."""
        old, new, *coordinates = self.since_zero(before, now, *others)
        there = np.array([*coordinates, 0.0])
        return self.slot_apart * ((new - there) ** 2 - (old - there) ** 2)

    def squares(self, times: Sequence[Times | None]) -> Tensor:
        """What time has in the squared distances [times, times + 1] between means, and at last to zero; float64."""
        since_zero = torch.tensor(self.since_zero(*times), dtype=torch.float64)
        return self.slot_apart * (since_zero[:, None] - torch.cat([since_zero, torch.zeros(1)])).square()
