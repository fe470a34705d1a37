"""What the engine tells of itself: frozen figures that any thread may read."""

from __future__ import annotations

from dataclasses import dataclass

from .frames import FrameCounts
from .state import State


@dataclass(frozen=True)
class MemoryFigures:
    """The memory and the work on it after the newest slot. Durations in seconds as (median, 95th percentile)."""

    slots: int = 0
    entries: int = 0
    capacity: int = 0
    tokens: int = 0
    bytes: int = 0
    device_bytes: int = 0
    first_ns: int = 0
    last_ns: int = 0
    novelty_sum: float = 0.0
    encode_s: tuple[float, float] = (0.0, 0.0)
    update_s: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Status:
    """What msg/MemoryStatus.msg and /diagnostics report."""

    state: State
    cameras: tuple[tuple[str, FrameCounts], ...]
    memory: MemoryFigures
    answer_s: tuple[float, float]
    questions_answered: int
    questions_failed: int
    questions_waiting: int
    question_queue: int  # most that may wait
    last_error: str

    @property
    def frames(self) -> FrameCounts:
        """Of all cameras."""
        return FrameCounts.total([counts for _, counts in self.cameras])
