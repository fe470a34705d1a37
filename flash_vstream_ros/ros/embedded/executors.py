"""Executors: threads that run the callbacks of nodes, as rclpy.executors."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from .context import Context, get_default_context
from .exceptions import ExternalShutdownException
from .task import Future
from .waitable import Waitable, Work

if TYPE_CHECKING:
    from .node import Node

SIGNAL_SLICE = 0.1
"""Longest wait before the executor checks whether a signal has ended the context [s]."""


class Executor:
    """Base of both executors: has the nodes, finds a callback that is ready, or waits for one."""

    def __init__(self, *, context: Context | None = None) -> None:
        self._context = context or get_default_context()
        self._nodes: list[Node] = []
        self._search_from = 0  # index among the waitables
        self._is_shutdown = False
        self._lock = threading.Lock()

    def add_node(self, node: Node) -> bool:
        with self._lock:
            if node in self._nodes:
                return False
            self._nodes.append(node)
        node.executor = self
        self.wake()
        return True

    def remove_node(self, node: Node) -> None:
        with self._lock:
            if node in self._nodes:
                self._nodes.remove(node)
        if node.executor is self:
            node.executor = None
        self.wake()

    def get_nodes(self) -> list[Node]:
        with self._lock:
            return list(self._nodes)

    def wake(self) -> None:
        self._context.notifier.notify()

    def shutdown(self) -> bool:
        """End spinning after the callbacks that are running."""
        self._is_shutdown = True
        self.wake()
        for node in self.get_nodes():
            self.remove_node(node)
        return True

    def spin(self) -> None:
        """Run callbacks until the executor is shut down.

        Raises ExternalShutdownException if a signal or shutdown() ends the context, and any exception of a callback.
        """
        while self._context.ok() and not self._is_shutdown:
            self.spin_once()

    def spin_once(self, timeout_sec: float | None = None, stop: Callable[[], bool] = lambda: False) -> None:
        """Wait for one callback, at most `timeout_sec` or until `stop()` is True, and run it."""
        raise NotImplementedError

    def spin_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        future.add_done_callback(lambda _: self.wake())
        deadline = _deadline(timeout_sec)
        while self._context.ok() and not future.done() and not self._is_shutdown:
            remaining = _remaining(deadline)
            if remaining is not None and remaining <= 0.0:
                return
            self.spin_once(remaining, future.done)

    def _wait_for_work(self, timeout: float | None, stop: Callable[[], bool] = lambda: False) -> Work | None:
        """Wait for a call of a callback, and claim it. Returns None after `timeout`, at shutdown or if `stop()`."""
        deadline = _deadline(timeout)
        while True:
            seen = self._context.notifier.notifications
            if not self._context.ok():
                raise ExternalShutdownException
            if self._is_shutdown or stop():
                return None
            work, due_in = self._find_work()
            if work:
                return work
            remaining = _remaining(deadline)
            if remaining is not None and remaining <= 0.0:
                return None
            self._context.notifier.wait(seen, min(x for x in (SIGNAL_SLICE, remaining, due_in) if x is not None))

    def _find_work(self) -> tuple[Work | None, float | None]:
        """Returns a call of a callback that can begin now, if any, and the seconds until the next timer is due."""
        waitables = [waitable for node in self.get_nodes() for waitable in node.waitables]
        due_in: float | None = None
        for offset in range(len(waitables)):
            # Each search starts after the last waitable that had work, so that a busy camera does not block others.
            index = (self._search_from + offset) % len(waitables)
            waitable = waitables[index]
            if waitable.ready:
                if work := self._claim(waitable):
                    self._search_from = index + 1
                    return work, None
            elif (due := waitable.due_in) is not None:
                due_in = due if due_in is None else min(due_in, due)
        return None, due_in

    def _claim(self, waitable: Waitable) -> Work | None:
        group = waitable.callback_group
        if not group.enter():
            return None
        work = None
        try:
            work = waitable.take()
        finally:
            if work is None:
                group.leave()
        if work is None:
            return None
        run = work

        def claimed() -> None:
            try:
                run()
            finally:
                group.leave()
                self.wake()

        return claimed


class SingleThreadedExecutor(Executor):
    """Runs callbacks one after the other on the thread that spins."""

    def spin_once(self, timeout_sec: float | None = None, stop: Callable[[], bool] = lambda: False) -> None:
        if work := self._wait_for_work(timeout_sec, stop):
            work()


class MultiThreadedExecutor(Executor):
    """Runs callbacks on a pool of threads; a callback begins only when a thread is free."""

    def __init__(self, num_threads: int | None = None, *, context: Context | None = None) -> None:
        super().__init__(context=context)
        self._num_threads = num_threads or max(2, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="ros-callback")
        self._running = 0
        self._workers: set[int] = set()
        self._errors: deque[BaseException] = deque()

    def spin_once(self, timeout_sec: float | None = None, stop: Callable[[], bool] = lambda: False) -> None:
        work = self._wait_for_work(timeout_sec, lambda: bool(self._errors) or stop())
        if self._errors:
            raise self._errors.popleft()
        if work:
            with self._lock:
                self._running += 1
            try:
                self._pool.submit(self._run, work)
            except RuntimeError:  # shut down by another thread meanwhile
                with self._lock:
                    self._running -= 1

    def _find_work(self) -> tuple[Work | None, float | None]:
        # Without a free thread nothing is taken: a sample stays in the reader, where a newer one may replace it.
        return (None, None) if self._running >= self._num_threads else super()._find_work()

    def _run(self, work: Work) -> None:
        self._workers.add(threading.get_ident())
        try:
            work()
        except BaseException as error:
            self._errors.append(error)
        finally:
            with self._lock:
                self._running -= 1
            self.wake()

    def shutdown(self) -> bool:
        """End spinning, and wait for callbacks unless a callback calls this. Returns True if all have ended."""
        super().shutdown()
        self._pool.shutdown(wait=threading.get_ident() not in self._workers)
        return self._running == 0


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None or timeout < 0 else time.monotonic() + timeout


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()
