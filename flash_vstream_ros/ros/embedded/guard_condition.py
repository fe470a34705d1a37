"""Guard condition, as rclpy.guard_condition: a callback that an executor runs once for every time it is triggered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .callback_groups import CallbackGroup
from .waitable import Waitable, Work

if TYPE_CHECKING:
    from .node import Node


class GuardCondition(Waitable):
    def __init__(self, node: Node, callback: Callable[[], None], callback_group: CallbackGroup) -> None:
        super().__init__(callback_group)
        self._node = node
        self.callback = callback

    def trigger(self) -> None:
        """Let the callback run; several triggers before it begins are one."""
        self.signalled = True
        self._node.context.bell.ring()

    def take(self) -> Work | None:
        if not self.signalled:
            return None
        self.signalled = False
        return self.callback
