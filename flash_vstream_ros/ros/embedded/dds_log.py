"""Logs warnings and errors of the C library, counted and throttled.

The library writes a line for each bad packet of a peer, without limit. It writes to a file in memory, which the DDS
thread empties. A Python callback instead could block a thread that holds the library's locks.
"""

from __future__ import annotations

import os
import sys

from .logging import get_logger

MAX_READ = 64 << 10  # [bytes]
PERIOD_S = 30.0  # between two log lines

FILE = os.memfd_create("dds-log") if sys.platform.startswith("linux") else -1
"""File descriptor of that file; -1 where memory files do not exist: there the library writes to stderr."""

_lines = 0


def take() -> str:
    """Return the text written since the last call, or its end if it is longer than MAX_READ."""
    global _lines
    if FILE < 0 or not (size := os.fstat(FILE).st_size):
        return ""
    text = os.pread(FILE, MAX_READ, max(0, size - MAX_READ)).decode(errors="replace")
    os.ftruncate(FILE, 0)  # the library appends, so the file grows from its beginning again
    _lines += round(text.count("\n") * max(1.0, size / MAX_READ))
    return text


def report() -> None:
    """Log the newest warning and the number of all. The DDS thread calls it periodically."""
    if lines := take().splitlines():
        text = f"{_lines} warnings of Cyclone DDS so far, the last: {lines[-1][:300]}"
        get_logger("dds").warning(text, throttle_duration_sec=PERIOD_S)
