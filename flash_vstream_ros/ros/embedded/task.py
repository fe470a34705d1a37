"""Future: the result of an asynchronous call, as in rclpy.task.Future."""

from __future__ import annotations

from concurrent import futures
from typing import Any


class Future(futures.Future[Any]):
    """A future whose callbacks run on the thread that completes it."""

    def result(self, timeout: float | None = None) -> Any:
        """The result; None before it is set, and after cancel(). Raises the exception that was set."""
        return super().result(timeout) if self.done() and not self.cancelled() else None
