"""A timer whose period is a parameter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from flash_vstream_ros.ros import MutuallyExclusiveCallbackGroup, Node

SHORTEST_S = 0.01


class Periodic:
    """Calls back every `period_s` seconds of `clock` (None: the node's), in a callback group of its own.

    0: never; what lies between 0 and 10 ms is taken as 10 ms. Thread safe.
    """

    def __init__(self, node: Node, callback: Callable[[], None], period_s: float, clock: Any = None) -> None:
        self._node = node
        self._callback = callback
        self._period_s = period_s
        self._clock = clock
        self._group = MutuallyExclusiveCallbackGroup()
        self._lock = threading.Lock()  # of the timer
        self._timer: Any = None
        self._wanted = True
        self._restart()

    @property
    def running(self) -> bool:
        """Whether it calls back."""
        return self._timer is not None

    def every(self, period_s: float) -> None:
        """Go on with another period, the first one from now on. The same as before changes nothing."""
        if period_s != self._period_s:
            self._period_s = period_s
            self._restart()

    def cancel(self) -> None:
        """Do not call back until `reset`."""
        self._wanted = False
        self._restart()

    def reset(self) -> None:
        """Go on with a whole period from now on."""
        self._wanted = True
        self._restart()

    def _restart(self) -> None:
        # A timer of rclpy's that is cancelled just when it is due blocks its callback group for good.
        with self._lock:
            if self._timer is not None:
                self._node.destroy_timer(self._timer)
                self._timer = None
            if self._wanted and self._period_s:
                self._timer = self._node.create_timer(
                    max(self._period_s, SHORTEST_S), self._callback, callback_group=self._group, clock=self._clock
                )
