"""Wakes the threads that wait for work."""

from __future__ import annotations

import threading


class Bell:
    """Rings are counted, so that none is lost between looking for work and waiting for it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.rings = 0

    def ring(self) -> None:
        with self._condition:
            self.rings += 1
            self._condition.notify_all()

    def wait(self, seen: int, timeout: float) -> None:
        """Return after a ring later than the `seen` ones, or after `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self.rings != seen, timeout)
