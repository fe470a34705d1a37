"""Percentiles of recent durations."""

from __future__ import annotations

import statistics
import threading
from collections import deque

WINDOW = 256


class Durations:
    """The last 256 durations of one kind of work [s]. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def add(self, seconds: float) -> None:
        with self._lock:
            self._recent.append(seconds)

    @property
    def newest(self) -> float:
        """The duration added last [s]; 0 if there is none."""
        with self._lock:
            return self._recent[-1] if self._recent else 0.0

    def p50_p95(self) -> tuple[float, float]:
        """Median and 95th percentile [s]; zeros if there is none."""
        with self._lock:
            recent = list(self._recent)
        if len(recent) < 2:
            return (recent[0], recent[0]) if recent else (0.0, 0.0)
        cuts = statistics.quantiles(recent, n=20, method="inclusive")
        return cuts[9], cuts[18]
