"""rclpy's multi-threaded executor, for a node that destroys subscriptions and is ended by signals while it spins."""

from __future__ import annotations

from typing import Any

from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, ShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation

try:
    from rclpy.event_handler import SubscriptionEventCallbacks as _Iron  # noqa: F401
    from rclpy.executors import MultiThreadedExecutor as _MultiThreadedExecutor
except ImportError:
    from .before_iron import MultiThreadedExecutor as _MultiThreadedExecutor


class MultiThreadedExecutor(_MultiThreadedExecutor):
    """Keeps spinning where rclpy's raises from its own wait, and waits for its threads at shutdown."""

    def wait_for_ready_callbacks(self, *args: Any, **kwargs: Any) -> Any:
        """The next callback. Raises ExternalShutdownException or ShutdownException at the end."""
        while (ready := self._ready(*args, **kwargs)) is None:
            pass
        return ready

    def _ready(self, *args: Any, **kwargs: Any) -> Any:
        """None where an entity was destroyed between being listed and being waited on."""
        try:
            return super().wait_for_ready_callbacks(*args, **kwargs)
        except InvalidHandle:
            if self._is_shutdown:
                raise ShutdownException from None
            return None
        except rclpy_implementation.RCLError:
            if self.context.ok():
                raise
            raise ExternalShutdownException from None  # a signal came between the check and the wait

    def shutdown(self, timeout_sec: float | None = None, **options: Any) -> bool:
        """Stop, and wait for callbacks that run. rclpy before Kilted destroys what they are using."""
        ended = super().shutdown(timeout_sec, **options)
        self._executor.shutdown(wait=options.get("wait_for_threads", True))
        return bool(ended)
