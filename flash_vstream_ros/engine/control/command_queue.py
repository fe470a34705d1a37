"""Work on the memory that other threads want done: handed in by them, done by the worker, in the order it came."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Target = TypeVar("Target")
Result = TypeVar("Result")


class NotReady(RuntimeError):
    """Nobody is there to do the work; the sentence says why."""


class CommandQueue(Generic[Target]):
    """A line of work that is done to one object by the thread that owns it, closed at first. Thread safe.

    `refuse` says why nothing is taken while it is closed.
    """

    def __init__(self, refuse: Callable[[], str]) -> None:
        self._lock = threading.Lock()
        self._refuse = refuse
        self._open = False
        self._waiting: deque[tuple[Callable[[Target], Any], Future[Any]]] = deque()

    def place(self, work: Callable[[Target], Result]) -> Future[Result]:
        """Hand in `work`; its result or exception comes through the future. `cancel()` that to withdraw it.

        While the line is closed the future holds NotReady.
        """
        future: Future[Result] = Future()
        with self._lock:
            taken = self._open
            if taken:
                self._waiting.append((work, future))
        if not taken:
            future.set_exception(NotReady(self._refuse()))
        return future

    def open(self) -> None:
        with self._lock:
            self._open = True

    def close(self, refusal: str) -> None:
        """Take nothing more, and refuse what waits, for that reason."""
        with self._lock:
            self._open = False
            waiting = list(self._waiting)
            self._waiting.clear()
        for _, future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(NotReady(refusal))

    def run_pending(self, workshop: Target, report: Callable[[], None]) -> None:
        """Do all that waits, on the calling thread; `report` after each, before anyone hears of its result."""
        while (order := self._next()) is not None:
            work, future = order
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work(workshop)
            except Exception as error:
                report()
                future.set_exception(error)
            else:
                report()
                future.set_result(result)

    def _next(self) -> tuple[Callable[[Target], Any], Future[Any]] | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None
