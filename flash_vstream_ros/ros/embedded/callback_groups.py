"""Which callbacks may run at the same time, as rclpy.callback_groups."""

from __future__ import annotations

import threading


class ReentrantCallbackGroup:
    """Callbacks run in parallel, also several of one entity."""

    def enter(self) -> bool:
        """Claim the group for a callback; False if that has to wait."""
        return True

    def leave(self) -> None:
        """The callback has ended."""


class MutuallyExclusiveCallbackGroup:
    """One callback at a time."""

    def __init__(self) -> None:
        self._busy = threading.Lock()

    def enter(self) -> bool:
        return self._busy.acquire(blocking=False)

    def leave(self) -> None:
        self._busy.release()


class ImageCallbackGroup(MutuallyExclusiveCallbackGroup):
    """One callback at a time; on rclpy, a thread of the executor runs those of all such groups and no others."""


CallbackGroup = ReentrantCallbackGroup | MutuallyExclusiveCallbackGroup
