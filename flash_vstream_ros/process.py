"""How a program of this package is interrupted and ended: signals, and a bound on what runs at exit.

These are side effects on the whole process, so only programs call them: the node's executable and the command line.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TYPE_CHECKING = False  # as in typing, whose import would delay the guard against Ctrl-C
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

INTERRUPTED = 130  # exit status, as shells report a program ended by Ctrl-C
EXIT_LIMIT_S = 1.5


def exit_on_interrupt() -> None:
    """End the process at Ctrl-C without a traceback, while its modules are being imported.

    A KeyboardInterrupt inside an import is printed where it cannot propagate: weakref callbacks, modules in C.
    """
    if not _ignored(signal.SIGINT):
        signal.signal(signal.SIGINT, _exit)


def raise_on_interrupt() -> None:
    """Raise KeyboardInterrupt in the main thread at Ctrl-C, so that a command can clean up."""
    if not _ignored(signal.SIGINT):
        signal.signal(signal.SIGINT, _raise)


@contextmanager
def importing() -> Iterator[None]:
    """Around slow imports inside a command: Ctrl-C ends the process at once.

    No effect unless `raise_on_interrupt` is in force: in-process callers and ROS keep their handlers.
    """
    ours = signal.getsignal(signal.SIGINT) is _raise
    if ours:
        exit_on_interrupt()
    try:
        yield
    finally:
        if ours:
            raise_on_interrupt()


def leave_signals_to_ros() -> Callable[[], None]:
    """Keep Python from raising KeyboardInterrupt: the ROS context, which ends at SIGINT and SIGTERM, ends `spin`.

    To be called before `init`, and what it returns afterwards: `init` handles signals that the parent process wants
    ignored, as a shell does with SIGINT for what it starts with `&`.
    """
    ignored = [number for number in (signal.SIGINT, signal.SIGTERM) if _ignored(number)]
    for number in {signal.SIGINT, signal.SIGTERM} - set(ignored):
        signal.signal(number, _pass)

    def ignore_again() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    return ignore_again


def end_within(seconds: float = EXIT_LIMIT_S) -> None:
    """End the process with status 0 in so many seconds, whatever it is doing then; returns at once."""

    def end() -> None:
        print(f"not everything stopped within {seconds} s: the process ends now", file=sys.stderr)
        end_process(0)

    import threading

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def end_process(status: int) -> NoReturn:
    """Flush the output and end without Python's own finalization, which takes a second after `gc.freeze` and may not
    run while a thread is inside torch."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _ignored(number: int) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def _raise(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _pass(number: int, frame: FrameType | None) -> None:
    """A handler of Python's that does nothing; rclpy's own calls it too."""
