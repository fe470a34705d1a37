"""Background work that takes up to a share of the time."""

from __future__ import annotations

from collections.abc import Callable

WINDOW_S = 10.0


class BackgroundBudget:
    """Over any longer time, work takes up to a share of it; after a rest, so much of ten seconds at once."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._credit_s = WINDOW_S
        self._at = now()

    def wait_s(self, share: float) -> float:
        """How long until there may be more work [s]; 0: not at all. `share` is above 0."""
        now = self._now()
        self._credit_s = min(WINDOW_S * share, self._credit_s + (now - self._at) * share)
        self._at = now
        return max(0.0, -self._credit_s / share)

    def spend(self, seconds: float) -> None:
        """Count work that was done."""
        self._credit_s -= seconds
