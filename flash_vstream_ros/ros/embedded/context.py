"""Context, as in rclpy.context: everything that exists between init() and shutdown()."""

from __future__ import annotations

import atexit
import signal
import sys
import threading
from collections.abc import Sequence
from enum import Enum
from types import FrameType
from typing import Any, TypeVar

from . import dds_log
from .arguments import Arguments
from .dds import Participant
from .discovery import Discovery, domain_id_from_environment
from .exceptions import NotInitializedException
from .graph import Graph
from .logging import set_logger_level
from .qos_watch import QosWatch
from .waitable import Notifier

T = TypeVar("T")


class SignalHandlerOptions(Enum):
    """The signals that end a context, as in rclpy.signals."""

    NO = ()
    SIGINT = (signal.SIGINT,)
    SIGTERM = (signal.SIGTERM,)
    ALL = (signal.SIGINT, signal.SIGTERM)


class Context:
    """The arguments, the participant, the graph and the signal handlers that nodes share."""

    def __init__(self) -> None:
        self.notifier = Notifier()
        self.arguments = Arguments()
        self._participant: Participant | None = None
        self._graph: Graph | None = None
        self._qos_watch: QosWatch | None = None
        self._stopped = False  # no lock guards it, since a signal handler must not take one
        self._lock = threading.RLock()
        self._previous_handlers: dict[int, Any] = {}

    @property
    def participant(self) -> Participant:
        return _initialized(self._participant)

    @property
    def graph(self) -> Graph:
        return _initialized(self._graph)

    @property
    def qos_watch(self) -> QosWatch:
        return _initialized(self._qos_watch)

    @property
    def closed(self) -> bool:
        """Returns True if DDS is not running."""
        return self._participant is None

    def init(self, args: Sequence[str] | None = None, *, domain_id: int | None = None) -> None:
        """Start DDS. `args` defaults to sys.argv.

        Raises RuntimeError if it is started already, ROSArgumentError for invalid arguments, and ValueError for invalid
        environment variables.
        """
        with self._lock:
            if self._participant is not None:
                raise RuntimeError("init() was called twice without shutdown() in between")
            self.arguments = Arguments.parse(sys.argv[1:] if args is None else args)
            for name, level in self.arguments.log_levels:
                set_logger_level(name, level)
            domain = domain_id_from_environment() if domain_id is None else domain_id
            self._participant = Participant(domain, Discovery.from_environment())
            self._graph = Graph(self._participant, self.notifier.notify)
            self._qos_watch = QosWatch(self._graph)
            self._participant.add_periodic_task(self._qos_watch.report_pending)
            self._participant.add_periodic_task(dds_log.report)
            self._stopped = False
            atexit.register(self.try_shutdown)

    def ok(self) -> bool:
        return self._participant is not None and not self._stopped

    def shutdown(self) -> None:
        """Leave the network and free everything. Raises RuntimeError if not started."""
        with self._lock:
            participant, graph = self._participant, self._graph
            if participant is None or graph is None:
                raise RuntimeError("shutdown() was called without init()")
            self._stopped = True
            self.notifier.notify()
            self.uninstall_signal_handlers()
            participant.stop()
            graph.close()
            participant.close()
            self._participant = self._graph = self._qos_watch = None
            atexit.unregister(self.try_shutdown)

    def try_shutdown(self) -> None:
        if self._participant is not None:
            self.shutdown()

    def install_signal_handlers(self, options: SignalHandlerOptions = SignalHandlerOptions.ALL) -> None:
        """Let the signals of `options` end spinning. Their previous handlers are called too. Main thread only.

        A signal that the process ignores stays ignored, such as SIGINT in a shell's background.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in options.value:
            if signal.getsignal(number) not in (self._handle_signal, signal.SIG_IGN):
                self._previous_handlers[number] = signal.signal(number, self._handle_signal)

    def uninstall_signal_handlers(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in list(self._previous_handlers.items()):
            # If another context has installed a handler since, it calls ours, which then calls the previous handler.
            if signal.getsignal(number) == self._handle_signal:
                signal.signal(number, handler)
                del self._previous_handlers[number]

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True
        previous = self._previous_handlers.get(number)
        if callable(previous):
            previous(number, frame)


def _initialized(part: T | None) -> T:
    if part is None:
        raise NotInitializedException("init() was not called, or shutdown() was called")
    return part


_default_context = Context()


def get_default_context() -> Context:
    return _default_context
