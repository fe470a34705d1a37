"""Waitables: entities whose callbacks an executor runs. A ready waitable returns the next call of its callback."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .callback_groups import CallbackGroup

Work = Callable[[], None]


class Notifier:
    """Wakes threads that wait for work. A count of notifications prevents losing one before a wait begins."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.notifications = 0

    def notify(self) -> None:
        with self._condition:
            self.notifications += 1
            self._condition.notify_all()

    def wait(self, seen: int, timeout: float) -> None:
        """Wait until there are more notifications than `seen`, or for `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self.notifications != seen, timeout)


class Waitable:
    """Base of everything with a callback. Events set `signalled`; an executor that finds it ready calls `take`."""

    def __init__(self, callback_group: CallbackGroup) -> None:
        self.callback_group = callback_group
        self.signalled = False

    @property
    def ready(self) -> bool:
        return self.signalled

    @property
    def due_in(self) -> float | None:
        """Seconds until it becomes ready by itself; None if only an event makes it ready."""
        return None

    def take(self) -> Work | None:
        """The next call of the callback, or None if there is nothing to do."""
        raise NotImplementedError


class GuardCondition(Waitable):
    """A callback that an executor runs after `trigger`, as in rclpy.guard_condition."""

    def __init__(self, notifier: Notifier, callback: Callable[[], None], callback_group: CallbackGroup) -> None:
        super().__init__(callback_group)
        self._notifier = notifier
        self.callback = callback

    def trigger(self) -> None:
        """Make the callback run. Several triggers before it begins count as one."""
        self.signalled = True
        self._notifier.notify()

    def take(self) -> Work | None:
        if not self.signalled:
            return None
        self.signalled = False
        return self.callback
