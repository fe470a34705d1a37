"""A result that comes later, as rclpy.task.Future."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Future:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._result: Any = None
        self._exception: BaseException | None = None
        self._callbacks: list[Callable[[Future], None]] = []

    def done(self) -> bool:
        return self._finished.is_set()

    def result(self) -> Any:
        """The result (None while there is none); raises the exception that was set."""
        if self._exception:
            raise self._exception
        return self._result

    def exception(self) -> BaseException | None:
        return self._exception

    def set_result(self, result: Any) -> None:
        self._result = result
        self._finish()

    def set_exception(self, exception: BaseException) -> None:
        self._exception = exception
        self._finish()

    def cancel(self) -> None:
        self._finish()

    def add_done_callback(self, callback: Callable[[Future], None]) -> None:
        """Call `callback(future)` when done, at once if it is; on the thread that completes it."""
        with self._lock:
            if not self.done():
                self._callbacks.append(callback)
                return
        callback(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until done. Not part of rclpy: for threads that do not spin."""
        return self._finished.wait(timeout)

    def _finish(self) -> None:
        with self._lock:
            self._finished.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)
