"""Settings of a program's process: signals, a time limit at exit, threads of PyTorch, freed memory.

They affect the whole process, so only programs use them: the node's executable and the command line.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

TYPE_CHECKING = False  # not imported from typing, which would delay the handling of Ctrl-C
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

INTERRUPTED = 130  # exit status after Ctrl-C, as shells report it, and after SIGTERM
END_SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_LIMIT_S = 1.5  # longest time for the node to stop
CLEANUP_LIMIT_S = 20.0  # longest time for a command to clean up after Ctrl-C
# glibc's M_ARENA_MAX, M_MMAP_THRESHOLD at its limit, M_TRIM_THRESHOLD, M_TOP_PAD: see `man mallopt`.
MALLOC_OPTIONS = {-8: 1, -3: 32 << 20, -1: (1 << 31) - 1, -2: 256 << 20}


def exit_on_interrupt() -> None:
    """Let Ctrl-C or SIGTERM end the process without a traceback, while its modules are being imported.

    A KeyboardInterrupt would be printed inside weakref callbacks and C modules, where it cannot propagate.
    """
    _handle_with(_exit)


def raise_on_interrupt() -> None:
    """Let Ctrl-C or SIGTERM raise KeyboardInterrupt in the main thread, so that a command can clean up.

    CLEANUP_LIMIT_S later the process ends, even if a library suppressed the exception or the cleanup does not end.
    """
    _handle_with(_raise)


@contextmanager
def importing() -> Iterator[None]:
    """Let Ctrl-C or SIGTERM end the process at once in a `with` block of slow imports.

    It has an effect only after `raise_on_interrupt`: other handlers, for example those of ROS, stay.
    """
    ours = any(signal.getsignal(number) is _raise for number in END_SIGNALS)
    if ours:
        exit_on_interrupt()
    try:
        yield
    finally:
        if ours:
            raise_on_interrupt()


class EndRequest:
    """Wakes the main thread at SIGINT or SIGTERM without interrupting running code.

    Create it in the main thread. Its handlers stay until the process ends, since a launch file sends SIGINT twice.
    """

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        # A signal writes a byte here at once, whichever thread gets it; Python's handlers wait for the main thread.
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        _handle_with(_pass)

    def trigger(self) -> None:
        """Request the end from any thread."""
        os.write(self._write_end, bytes([signal.SIGTERM]))

    def wait(self) -> None:
        """Wait for a request; returns at once if there was one already."""
        while os.read(self._read_end, 1)[0] not in END_SIGNALS:
            pass


def end_within(seconds: float = EXIT_LIMIT_S) -> None:
    """Return at once, and end the process with status 0 after `seconds`, even if it is busy."""

    import threading

    def end() -> None:
        print(f"the node did not stop within {seconds} s: the process ends now", file=sys.stderr)
        end_process(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def end_process(status: int) -> NoReturn:
    """Flush the output and end the process without Python's finalization.

    The finalization takes a second after `gc.freeze`, and must not run while a thread is inside torch.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def set_torch_threads(count: int) -> None:
    """Let PyTorch compute with `count` CPU threads, in this thread and in threads that start later.

    0 restores the number before the first call, which PyTorch or OMP_NUM_THREADS chose.
    """
    import torch

    default = _default_torch_threads()  # read before the first change
    torch.set_num_threads(count or default)


@cache
def _default_torch_threads() -> int:
    import torch

    return torch.get_num_threads()


def keep_freed_memory() -> None:
    """Let the C library reuse freed memory instead of returning it to the system, where it is glibc.

    A training step allocates the same large tensors again and again. In a virtual machine, the page faults of returned
    memory take longer than the computation. The process keeps its largest size.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in MALLOC_OPTIONS.items():
            mallopt(option, value)


def _handle_with(handler: Callable[[int, FrameType | None], None]) -> None:
    """Handle the signals that end a program, except ignored ones, such as SIGINT after a shell's `&`."""
    for number in END_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def _raise(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGALRM, _exit)
    signal.setitimer(signal.ITIMER_REAL, CLEANUP_LIMIT_S)
    raise KeyboardInterrupt


def _pass(number: int, frame: FrameType | None) -> None:
    """A signal handler that does nothing: EndRequest gets the signal through its wakeup descriptor."""
