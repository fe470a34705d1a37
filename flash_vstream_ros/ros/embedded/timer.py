"""Timer, as in rclpy.timer; it follows its clock, which may be simulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .callback_groups import CallbackGroup
from .clock import Clock, ROSClock
from .time import SECOND_NS
from .waitable import Waitable, Work

if TYPE_CHECKING:
    from .node import Node


class Timer(Waitable):
    """Calls `callback` once per period. Missed periods are skipped."""

    def __init__(
        self,
        node: Node,
        callback: Callable[[], None],
        callback_group: CallbackGroup,
        period_ns: int,
        clock: Clock,
    ) -> None:
        super().__init__(callback_group)
        if period_ns < 0:
            raise ValueError(f"A timer's period must not be negative, got {period_ns} ns")
        self._node = node
        self.callback = callback
        self.clock = clock
        self.timer_period_ns = period_ns
        self._cancelled = False
        self._called_ns = self._now()
        self._next_ns = self._called_ns + period_ns

    def _now(self) -> int:
        return self.clock.now().nanoseconds

    @property
    def ready(self) -> bool:
        if self._cancelled:
            return False
        now = self._now()
        if now < self._called_ns:  # the clock jumped back to before the last call: a bag was started again
            self._called_ns, self._next_ns = now, now + self.timer_period_ns
        return now >= self._next_ns

    @property
    def due_in(self) -> float | None:
        if self._cancelled or (isinstance(self.clock, ROSClock) and self.clock.ros_time_is_active):
            return None
        return max(0.0, (self._next_ns - self._now()) / SECOND_NS)

    def take(self) -> Work | None:
        if not self.ready:
            return None
        now = self._called_ns = self._now()
        self._next_ns += self.timer_period_ns
        if self._next_ns <= now:  # missed periods are skipped
            missed = (now - self._next_ns) // self.timer_period_ns + 1 if self.timer_period_ns else 0
            self._next_ns += missed * self.timer_period_ns
        return self.callback

    def cancel(self) -> None:
        self._cancelled = True

    def reset(self) -> None:
        self._called_ns = self._now()
        self._next_ns = self._called_ns + self.timer_period_ns
        self._cancelled = False
        self._node.context.notifier.notify()
