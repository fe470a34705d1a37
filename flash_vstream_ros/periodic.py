"""A timer whose period is a parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flash_vstream_ros.ros import MutuallyExclusiveCallbackGroup, Node

SHORTEST_S = 0.01


class Periodic:
    """Calls back every `period_s` seconds of `clock` (None: the node's), in a callback group of its own.

    0: never; what lies between 0 and 10 ms is taken as 10 ms.
    """

    def __init__(self, node: Node, callback: Callable[[], None], period_s: float, clock: Any = None) -> None:
        self._node = node
        self._period_s = period_s
        self._wanted = True
        self._timer = node.create_timer(
            max(period_s, SHORTEST_S), callback, callback_group=MutuallyExclusiveCallbackGroup(), clock=clock
        )
        self._restart()

    @property
    def running(self) -> bool:
        """Whether it calls back."""
        return not self._timer.is_canceled()

    def every(self, period_s: float) -> None:
        """Go on with another period, the first one from now on. The same as before changes nothing."""
        if period_s == self._period_s:
            return
        self._period_s = period_s
        self._timer.timer_period_ns = round(max(period_s, SHORTEST_S) * 1e9)
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
        if not self._wanted or not self._period_s:
            self._timer.cancel()
            return
        self._timer.reset()
        if self._node.executor is not None:
            self._node.executor.wake()
