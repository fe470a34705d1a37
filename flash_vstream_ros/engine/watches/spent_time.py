"""The share of the last seconds that was spent on something."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

WINDOW_S = 10.0


class SpentTime:
    """Sum of durations within the last WINDOW_S seconds, as a share of that time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._spent: deque[tuple[float, float]] = deque()  # end and duration of each piece of work
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count work that ends now and took `seconds`."""
        self._spent.append((self._now(), seconds))
        self._sum_s += seconds
        self._drop_old()

    @property
    def share(self) -> float:
        """Share of the last WINDOW_S seconds, or of the time since the start if that is shorter [0..1]."""
        self._drop_old()
        elapsed_s = min(WINDOW_S, self._now() - self._began)
        return min(1.0, max(0.0, self._sum_s / elapsed_s)) if elapsed_s > 0 else 0.0

    def _drop_old(self) -> None:
        while self._spent and self._spent[0][0] < self._now() - WINDOW_S:
            self._sum_s -= self._spent.popleft()[1]
