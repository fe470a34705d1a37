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
    """Keeps spinning when rclpy's own wait raises, and waits for its threads at shutdown."""

    def wait_for_ready_callbacks(self, *args: Any, **kwargs: Any) -> Any:
        """The next callback. Raises ExternalShutdownException or ShutdownException at the end."""
        while (ready := self._ready(*args, **kwargs)) is None:
            pass
        return ready

    def _ready(self, *args: Any, **kwargs: Any) -> Any:
        """The next callback; None if an entity was destroyed between being listed and being waited on."""
        try:
            return super().wait_for_ready_callbacks(*args, **kwargs)
        except ExternalShutdownException:
            raise
        except Exception as error:
            if self._is_shutdown:  # by another thread, which destroys what is waited on
                raise ShutdownException from None
            if isinstance(error, InvalidHandle):
                return None
            if isinstance(error, rclpy_implementation.RCLError) and not self.context.ok():
                raise ExternalShutdownException from None  # a signal came between the check and the wait
            raise

    def _take_waitable(self, waitable: Any) -> Any:
        try:
            return super()._take_waitable(waitable)
        except InvalidHandle:  # an event of a destroyed subscription, whose callback group rclpy would never release
            return None

    def _spin_once_impl(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._spin_once_impl(*args, **kwargs)
        except RuntimeError:
            if not self._is_shutdown:
                raise
            # The thread pool takes no more callbacks.

    def shutdown(self, timeout_sec: float | None = None, **options: Any) -> bool:
        """Stop, and wait for callbacks that run.

        rclpy before Kilted does not wait. Every version destroys the guard condition that a callback triggers when it
        has been taken, so the threads end first.
        """
        with self._shutdown_lock:
            self._is_shutdown = True
            if self._guard is not None:
                self._guard.trigger()
        self._executor.shutdown(wait=options.get("wait_for_threads", True))
        return bool(super().shutdown(timeout_sec, **options))
