"""Callback groups: they define which callbacks may run at the same time, as in rclpy.callback_groups."""

from __future__ import annotations

import threading


class ReentrantCallbackGroup:
    """Callbacks run in parallel, even callbacks of the same entity."""

    def enter(self) -> bool:
        """Claim the group for a callback. Returns False if the callback must wait."""
        return True

    def leave(self) -> None:
        """Release the group when the callback has ended."""


class MutuallyExclusiveCallbackGroup:
    """One callback at a time."""

    def __init__(self) -> None:
        self._busy = threading.Lock()

    def enter(self) -> bool:
        return self._busy.acquire(blocking=False)

    def leave(self) -> None:
        self._busy.release()


class ImageCallbackGroup(MutuallyExclusiveCallbackGroup):
    """One callback at a time. With rclpy, one thread runs the callbacks of all such groups, and no others."""


CallbackGroup = ReentrantCallbackGroup | MutuallyExclusiveCallbackGroup
