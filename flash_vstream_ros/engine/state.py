"""What the engine is doing."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """The constants of msg/MemoryStatus.msg, by the same names and numbers."""

    LOADING = 0
    READY = 1
    FAILED = 2
