"""Where in time the model is told that something stands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .config import FlashMemoryConfig
from .scope import Seen


class Timed(Seen, Protocol):
    """A slot, or several of one camera: their stamps, and their times in the order of a memory [ns]."""

    @property
    def oldest_ns(self) -> int: ...  # time of the earliest slot

    @property
    def newest(self) -> tuple[int, int]: ...  # time and stamp of the latest slot


def mean_slots(time_sum: int, times: int, zero_ns: int, slot_period_ns: int) -> float:
    """The mean of `times` times since a zero [slots]; integers until the division, so exact to the nanosecond."""
    return (time_sum - times * zero_ns) / (times * slot_period_ns)


def after_all(*times: Tensor) -> int:
    """The first time id after all of some, rounded as AM-RoPE does."""
    return max((round(float(each.max())) + 1 for each in times if len(each)), default=0)


class TimeIds(NamedTuple):
    """Time ids of a memory whose slots lie between two times [ns]: in slots since its origin, scaled to a horizon."""

    origin_ns: int
    newest_ns: int
    slot_period_ns: int
    horizon_slots: int  # the longest time id; longer spans are scaled to it; 0: never

    def unscaled(self, time_sum: int, times: int) -> float:
        """The mean of `times` times since the origin [slots]."""
        return mean_slots(time_sum, times, self.origin_ns, self.slot_period_ns)

    @property
    def scale(self) -> float:
        """What slots since the origin are multiplied with."""
        span = self.unscaled(self.newest_ns, 1)
        return self.horizon_slots / span if span > self.horizon_slots > 0 else 1.0

    def of(self, sums: Iterable[tuple[int, int]]) -> Tensor:
        """The ids (float64) of mean times, each given as a sum of times and their number."""
        scale = self.scale
        return torch.tensor([self.unscaled(*each) * scale for each in sums], dtype=torch.float64)


def clock_of(parts: Iterable[Timed], config: FlashMemoryConfig) -> TimeIds:
    """Time ids of a memory that stands for `parts`."""
    held = list(parts)
    origin_ns = min((part.oldest_ns for part in held), default=0)
    newest_ns, _ = max((part.newest for part in held), default=(0, 0))
    return TimeIds(origin_ns, newest_ns, config.slot_period_ns, config.horizon_slots)


def text_slots(ids: TimeIds, shown: int, config: FlashMemoryConfig) -> int:
    """How many time ids the text after CSM leaves to it when so many slots are shown."""
    if shown and config.last_seen_ids:
        return after_all(ids.of([(ids.newest_ns, 1)]))
    return min(shown, config.csm_slots)
