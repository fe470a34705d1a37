"""Time as a coordinate of the clustering, in addition to appearance.

If `episode_slots` is set, equal views far apart in time are clustered separately. Equal views that are `episode_slots`
slots apart are as distant from each other as the first view is from zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .config import FlashMemoryConfig
from .exemplars import Exemplar
from .region import NOWHERE, Region
from .slot import Slot
from .time_ids import mean_slots

MAX_EPISODES = 16  # of a hierarchical memory's stream; if there are more, episodes become twice as long

Times = tuple[int, int]  # sum of the times of some slots [ns], and their number


class FirstView(NamedTuple):
    """Reference of the time coordinate: the earliest view whose features the memory still stores."""

    camera: str = ""
    first_ns: int = 0  # stamps of its frames
    last_ns: int = 0
    time_ns: int = 0
    squared_norm: float = 0.0  # of its low-resolution map
    region: Region = NOWHERE  # its position

    @classmethod
    def of(cls, view: Slot | Exemplar, squared_norm: float) -> FirstView:
        return cls(view.camera, view.first_ns, view.last_ns, view.time_ns, squared_norm, view.region)


class EpisodeTime(NamedTuple):
    """The time coordinate: its reference view and its scale. `episode_slots` 0 switches it off."""

    first: FirstView = FirstView()
    episode_slots: float = 0.0
    slot_period_ns: int = 1

    @classmethod
    def of(cls, first: FirstView, config: FlashMemoryConfig, newest_ns: int = 0) -> EpisodeTime:
        """The time coordinate of a stream until `newest_ns`. In a hierarchical memory, episodes grow with it."""
        episode_slots = config.episode_slots
        if config.hierarchical and episode_slots:
            span = (newest_ns - first.time_ns) / config.slot_period_ns
            while span > MAX_EPISODES * episode_slots:
                episode_slots *= 2
        return cls(first, episode_slots, config.slot_period_ns)

    @property
    def squared_per_slot(self) -> float:
        """Squared distance of equal views that are one slot apart; 0: time does not count."""
        return self.first.squared_norm / self.episode_slots**2 if self.episode_slots else 0.0

    def coordinates(self, *times: Times | None, missing: float = 0.0) -> list[float]:
        """Mean times since the first view [slots]; None becomes `missing`."""
        zero_ns, period_ns = self.first.time_ns, self.slot_period_ns
        return [missing if each is None else mean_slots(*each, zero_ns, period_ns) for each in times]

    def squared_norm(self, times: Times) -> float:
        """Contribution of time to the squared norm of a cluster."""
        (coordinate,) = self.coordinates(times)
        return self.squared_per_slot * coordinate**2

    def add_time(self, distances: Sequence[float], now: Times, others: Sequence[Times | None]) -> list[float]:
        """Add the time coordinate to squared distances in appearance.

        `distances` [others + 1] lead from an item recorded at `now` to each of `others` (None: a free row), the last
        one to zero.
        """
        squared_per_slot = self.squared_per_slot
        if not squared_per_slot:
            return list(distances)
        (at,) = self.coordinates(now)
        coordinates = [*self.coordinates(*others, missing=at), 0.0]
        return [
            distance + squared_per_slot * (at - other) ** 2
            for distance, other in zip(distances, coordinates, strict=True)
        ]

    def distance_change(self, before: Times, after: Times, others: Sequence[Times | None]) -> np.ndarray:
        """Change of a cluster's squared distances [others + 1] when its times change; the last one is to zero."""
        old, new, *coordinates = self.coordinates(before, after, *others)
        ends = np.array([*coordinates, 0.0])
        return self.squared_per_slot * ((new - ends) ** 2 - (old - ends) ** 2)

    def by_age(self, squared: np.ndarray, times: Sequence[Times], newest_ns: int, linear_slots: float) -> np.ndarray:
        """Squared distances [clusters, clusters] with logarithmic ages in place of times.

        Ages, which are the times before `newest_ns`, count about linearly up to `linear_slots`, and views as old as
        that count as much as in a clustering with episodes of twice that length. The older clusters are, the further
        apart in time they may be.
        """
        if not self.squared_per_slot:
            return squared
        newest, *coordinates = np.array(self.coordinates((newest_ns, 1), *times))
        times_since = np.array(coordinates)
        ages = linear_slots * np.log1p(np.maximum(newest - times_since, 0.0) / linear_slots)
        per_slot = self.first.squared_norm / (2 * linear_slots) ** 2
        in_time = self.squared_per_slot * (times_since[:, None] - times_since) ** 2
        return np.maximum(squared - in_time, 0.0) + per_slot * (ages[:, None] - ages) ** 2

    def time_distances(self, times: Sequence[Times | None]) -> Tensor:
        """Contribution of time to squared distances [times, times + 1], float64; the last column is to zero."""
        coordinates = torch.tensor(self.coordinates(*times), dtype=torch.float64)
        return self.squared_per_slot * (coordinates[:, None] - torch.cat([coordinates, torch.zeros(1)])).square()
