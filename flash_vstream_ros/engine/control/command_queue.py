"""Commands of other threads, queued for the thread that owns their target."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Target = TypeVar("Target")
Result = TypeVar("Result")


class NotReady(RuntimeError):
    """No thread can run the command; the message says why."""


class Command(Generic[Target, Result]):
    """One piece of work. The owner of the target calls `run`, then `resolve`, which passes the result on."""

    def __init__(self, work: Callable[[Target], Result]) -> None:
        self.future: Future[Result] = Future()
        self._work = work
        self._result: Result | None = None
        self._error: Exception | None = None
        self._is_running = False

    def run(self, target: Target) -> None:
        """Do the work, unless the future was cancelled."""
        self._is_running = self.future.set_running_or_notify_cancel()
        if not self._is_running:
            return
        try:
            self._result = self._work(target)
        except Exception as error:
            self._error = error

    def resolve(self) -> None:
        """Set the result or exception of the future."""
        if not self._is_running:
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result)  # type: ignore[arg-type]

    def refuse(self, reason: str) -> None:
        """Set NotReady as the exception of the future."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(NotReady(reason))


class CommandQueue(Generic[Target]):
    """Commands in order of arrival. Closed at first. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._waiting: deque[Command[Target, Any]] = deque()

    def push(self, command: Command[Target, Any]) -> bool:
        """Append a command. Returns False if the queue is closed."""
        with self._lock:
            if self._is_open:
                self._waiting.append(command)
            return self._is_open

    def pop(self) -> Command[Target, Any] | None:
        """Take out the oldest command; None if there is none."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def open(self) -> None:
        with self._lock:
            self._is_open = True

    def close(self, reason: str) -> None:
        """Accept no more commands, and refuse those that wait."""
        with self._lock:
            self._is_open = False
            waiting = list(self._waiting)
            self._waiting.clear()
        for command in waiting:
            command.refuse(reason)
