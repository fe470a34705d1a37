"""A fix for rclpy before ROS 2 Iron, whose executors fail if an entity is destroyed while they run."""

from __future__ import annotations

from typing import Any

from rclpy import executors
from rclpy.exceptions import InvalidHandle


class _SkipsDestroyed(executors.Executor):
    """Skips an entity that was destroyed after it became ready.

    Humble's rclpy raises InvalidHandle instead. This ends `spin`, and the entity's callback group is never released.
    """

    def _take_subscription(self, subscription: Any) -> Any:
        return self._unless_destroyed(super()._take_subscription, subscription, None)

    def _take_timer(self, timer: Any) -> Any:
        return self._unless_destroyed(super()._take_timer, timer, None)

    def _take_service(self, service: Any) -> Any:
        return self._unless_destroyed(super()._take_service, service, None)

    def _take_client(self, client: Any) -> Any:
        return self._unless_destroyed(super()._take_client, client, (None, None))  # no reply to any request

    @staticmethod
    def _unless_destroyed(take: Any, entity: Any, nothing: Any) -> Any:
        try:
            return take(entity)
        except InvalidHandle:
            return nothing


class MultiThreadedExecutor(_SkipsDestroyed, executors.MultiThreadedExecutor):
    pass


class SingleThreadedExecutor(_SkipsDestroyed, executors.SingleThreadedExecutor):
    pass
