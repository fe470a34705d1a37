"""init() to shutdown(): the arguments, the wire and the signals of one process."""

from __future__ import annotations

import atexit
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from .arguments import Arguments
from .bell import Bell
from .discovery import MAX_DOMAIN_ID, Discovery, domain_id_from_environment
from .exceptions import NotInitializedException
from .graph import Graph
from .logging import set_logger_level
from .qos_watch import QosWatch
from .wire import Wire

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Context:
    """Where nodes live. One is enough for most processes; init() starts it and shutdown() frees everything."""

    def __init__(self) -> None:
        self.bell = Bell()
        self.arguments = Arguments()
        self._wire: Wire | None = None
        self._graph: Graph | None = None
        self._qos_watch: QosWatch | None = None
        self._stopped = False  # a plain flag: a signal handler may not take locks
        self._lock = threading.RLock()
        self._on_shutdown: list[Callable[[], None]] = []
        self._previous_handlers: dict[int, Any] = {}

    @property
    def wire(self) -> Wire:
        if self._wire is None:
            raise NotInitializedException("init() has not been called, or shutdown() has")
        return self._wire

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            raise NotInitializedException("init() has not been called, or shutdown() has")
        return self._graph

    @property
    def qos_watch(self) -> QosWatch:
        if self._qos_watch is None:
            raise NotInitializedException("init() has not been called, or shutdown() has")
        return self._qos_watch

    @property
    def closed(self) -> bool:
        """Whether there is no network to take anything off from."""
        return self._wire is None

    def init(self, args: Sequence[str] | None = None, *, domain_id: int | None = None) -> None:
        """Start DDS. `args` defaults to sys.argv.

        Raises RuntimeError when already started, ROSArgumentError for arguments and ValueError for environment
        variables that make no sense.
        """
        with self._lock:
            if self._wire is not None:
                raise RuntimeError("init() was called twice without shutdown() in between")
            self.arguments = Arguments.parse(sys.argv[1:] if args is None else args)
            for name, level in self.arguments.log_levels:
                set_logger_level(name, level)
            domain = domain_id_from_environment() if domain_id is None else domain_id
            if not 0 <= domain <= MAX_DOMAIN_ID:
                raise ValueError(f"domain_id is {domain}, expected 0 to {MAX_DOMAIN_ID}")
            self._wire = Wire(domain, Discovery.from_environment(), self.arguments.enclave)
            self._graph = Graph(self._wire, self.arguments.enclave, self.bell.ring)
            self._qos_watch = QosWatch(self._graph)
            self._wire.every_slice(self._qos_watch.look)
            self._stopped = False
            atexit.register(self.try_shutdown)

    def ok(self) -> bool:
        return self._wire is not None and not self._stopped

    def get_domain_id(self) -> int:
        return int(self.wire.participant.domain_id)

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call `callback()` at the beginning of shutdown()."""
        self._on_shutdown.append(callback)

    def shutdown(self) -> None:
        """Leave the network and free everything. Raises RuntimeError when not started."""
        with self._lock:
            wire, graph = self._wire, self._graph
            if wire is None or graph is None:
                raise RuntimeError("shutdown() was called without init()")
            self._stopped = True
            self.bell.ring()
            callbacks, self._on_shutdown = self._on_shutdown, []
            for callback in callbacks:
                callback()
            self.uninstall_signal_handlers()
            wire.stop()
            graph.close()
            wire.close()
            self._wire = self._graph = self._qos_watch = None
            atexit.unregister(self.try_shutdown)

    def try_shutdown(self) -> None:
        if self._wire is not None:
            self.shutdown()

    def install_signal_handlers(self) -> None:
        """Let SIGINT and SIGTERM end spinning; what handled them before is called too. Main thread only."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if signal.getsignal(number) != self._handle_signal:
                self._previous_handlers[number] = signal.signal(number, self._handle_signal)

    def uninstall_signal_handlers(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in list(self._previous_handlers.items()):
            # Where another context's handler came on top, this one stays to pass signals on.
            if signal.getsignal(number) == self._handle_signal:
                signal.signal(number, handler)
                del self._previous_handlers[number]

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True
        previous = self._previous_handlers.get(number)
        if callable(previous):
            previous(number, frame)


_default_context = Context()


def get_default_context() -> Context:
    return _default_context
