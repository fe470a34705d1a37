"""Token bucket that limits the share of time that background work takes."""

from __future__ import annotations

from collections.abc import Callable

BURST_WINDOW_S = 10.0


class BackgroundBudget:
    """A bucket of seconds: it fills at `share` seconds per second, up to `share` x BURST_WINDOW_S."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._credit_s = BURST_WINDOW_S
        self._refilled = now()

    def wait_s(self, share: float) -> float:
        """Time until work may start [s]; 0 if it may start now. `share` must be above 0."""
        now = self._now()
        self._credit_s = min(BURST_WINDOW_S * share, self._credit_s + (now - self._refilled) * share)
        self._refilled = now
        return max(0.0, -self._credit_s / share)

    def spend(self, seconds: float) -> None:
        """Subtract the duration of finished work from the bucket."""
        self._credit_s -= seconds
