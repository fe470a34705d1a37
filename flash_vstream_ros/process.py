"""Settings of the process of a program: signals, a bound on the work at exit, threads of PyTorch.

These are side effects on the whole process, so only programs call them: the node's executable and the command line.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

TYPE_CHECKING = False  # as in typing, whose import would delay the guard against Ctrl-C
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

INTERRUPTED = 130  # exit status, as shells report a program ended by Ctrl-C; also at SIGTERM
ENDING = (signal.SIGINT, signal.SIGTERM)
EXIT_LIMIT_S = 1.5
CLEANUP_LIMIT_S = 20.0


def exit_on_interrupt() -> None:
    """End the process at Ctrl-C or SIGTERM without a traceback, while its modules are being imported.

    A KeyboardInterrupt inside an import is printed where it cannot propagate: weakref callbacks, modules in C.
    """
    _handle_with(_exit)


def raise_on_interrupt() -> None:
    """Raise KeyboardInterrupt in the main thread at Ctrl-C or SIGTERM, so that a command can clean up.

    CLEANUP_LIMIT_S later the process ends, even if a library swallowed the exception or the cleanup waits for ever.
    """
    _handle_with(_raise)


@contextmanager
def importing() -> Iterator[None]:
    """Around slow imports inside a command: Ctrl-C or SIGTERM ends the process at once.

    No effect unless `raise_on_interrupt` is in force: in-process callers and ROS keep their handlers.
    """
    ours = any(signal.getsignal(number) is _raise for number in ENDING)
    if ours:
        exit_on_interrupt()
    try:
        yield
    finally:
        if ours:
            raise_on_interrupt()


class EndRequest:
    """Wakes the main thread at SIGINT or SIGTERM without interrupting any code that runs.

    To be made in the main thread. The handlers stay for the rest of the process: a launch file sends SIGINT twice.
    """

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        # The byte arrives whichever thread receives the signal; Python's handlers wait for the main thread.
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        _handle_with(_pass)

    def make(self) -> None:
        """Request the end from any thread."""
        os.write(self._write_end, bytes([signal.SIGTERM]))

    def wait(self) -> None:
        """Wait for a request, or return at once if there was one."""
        while os.read(self._read_end, 1)[0] not in ENDING:
            pass


def end_within(seconds: float = EXIT_LIMIT_S) -> None:
    """End the process with status 0 after `seconds`, even if it is busy; returns at once."""

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


def set_torch_threads(count: int) -> None:
    """Let PyTorch compute with `count` CPU threads, in this thread and those that start later.

    0: as many as before the first call, PyTorch's own choice or that of OMP_NUM_THREADS.
    """
    import torch

    at_first = _torch_threads_at_first()
    torch.set_num_threads(count or at_first)


@cache
def _torch_threads_at_first() -> int:
    import torch

    return torch.get_num_threads()


def _handle_with(handler: Callable[[int, FrameType | None], None]) -> None:
    """Handle the signals that end a program, except those that the parent ignores, as a shell's `&` does SIGINT."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def _raise(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGALRM, _exit)
    signal.setitimer(signal.ITIMER_REAL, CLEANUP_LIMIT_S)
    raise KeyboardInterrupt


def _pass(number: int, frame: FrameType | None) -> None:
    """A Python signal handler that does nothing: the wakeup descriptor of EndRequest gets the signal."""
