"""Time ids: positions of slots and clusters on the time axis of the prompt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .config import FlashMemoryConfig
from .scope import Recording


class Timed(Recording, Protocol):
    """A slot, or several slots of one camera, with stamps and with the times that order a memory [ns]."""

    @property
    def oldest_ns(self) -> int: ...  # time of the earliest slot

    @property
    def newest(self) -> tuple[int, int]: ...  # time and stamp of the latest slot


def mean_slots(time_sum: int, count: int, zero_ns: int, slot_period_ns: int) -> float:
    """Mean of `count` times since `zero_ns` [slots]. Integers until the division keep it exact to the nanosecond."""
    return (time_sum - count * zero_ns) / (count * slot_period_ns)


def next_time_id(*times: Tensor) -> int:
    """First time id after all of `times`, rounded as AM-RoPE does."""
    return max((round(float(each.max())) + 1 for each in times if len(each)), default=0)


class MemoryClock(NamedTuple):
    """Converts times [ns] to time ids: slots since the memory's origin, scaled to fit a horizon."""

    origin_ns: int
    newest_ns: int
    slot_period_ns: int
    horizon_slots: int  # largest time id; longer spans are scaled to it; 0: never

    def unscaled(self, time_sum: int, count: int) -> float:
        """Mean of `count` times since the origin [slots]."""
        return mean_slots(time_sum, count, self.origin_ns, self.slot_period_ns)

    @property
    def scale(self) -> float:
        """Factor from slots since the origin to time ids."""
        span = self.unscaled(self.newest_ns, 1)
        return self.horizon_slots / span if span > self.horizon_slots > 0 else 1.0

    def of(self, sums: Iterable[tuple[int, int]]) -> Tensor:
        """Time ids (float64) of mean times, each given as a sum of times and their number."""
        scale = self.scale
        return torch.tensor([self.unscaled(*each) * scale for each in sums], dtype=torch.float64)


def memory_clock(parts: Iterable[Timed], config: FlashMemoryConfig) -> MemoryClock:
    """The clock of a memory that consists of `parts`."""
    known = list(parts)
    origin_ns = min((part.oldest_ns for part in known), default=0)
    newest_ns, _ = max((part.newest for part in known), default=(0, 0))
    return MemoryClock(origin_ns, newest_ns, config.slot_period_ns, config.horizon_slots)


def text_slots(clock: MemoryClock, slots: int, config: FlashMemoryConfig) -> int:
    """Number of time ids reserved for CSM before the text, in a snapshot that represents `slots` slots."""
    if slots and config.last_seen_ids:
        return next_time_id(clock.of([(clock.newest_ns, 1)]))
    return min(slots, config.csm_slots)
