"""A timer whose period is a parameter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from flash_vstream_ros.ros import MutuallyExclusiveCallbackGroup, Node

SHORTEST_S = 0.01


class PeriodicTimer:
    """Calls `callback` every `period_s` seconds of `clock` (None: the node's clock), in its own callback group.

    A period of 0 stops it; periods below 10 ms are raised to 10 ms. Thread safe.
    """

    def __init__(self, node: Node, callback: Callable[[], None], period_s: float, clock: Any = None) -> None:
        self._node = node
        self._callback = callback
        self._period_s = period_s
        self._clock = clock
        self._group = MutuallyExclusiveCallbackGroup()
        self._lock = threading.Lock()  # guards the timer
        self._timer: Any = None
        self._wanted = True
        self._restart()

    @property
    def running(self) -> bool:
        """Returns True if the timer runs."""
        return self._timer is not None

    def set_period(self, period_s: float) -> None:
        """Change the period; a new one begins now. The same period changes nothing."""
        if period_s != self._period_s:
            self._period_s = period_s
            self._restart()

    def cancel(self) -> None:
        """Stop until `reset`."""
        self._wanted = False
        self._restart()

    def reset(self) -> None:
        """Start again with a whole period."""
        self._wanted = True
        self._restart()

    def _restart(self) -> None:
        # The timer is destroyed, since rclpy's Timer.cancel blocks the callback group forever if the timer is due.
        with self._lock:
            if self._timer is not None:
                self._node.destroy_timer(self._timer)
                self._timer = None
            if self._wanted and self._period_s:
                self._timer = self._node.create_timer(
                    max(self._period_s, SHORTEST_S), self._callback, callback_group=self._group, clock=self._clock
                )
