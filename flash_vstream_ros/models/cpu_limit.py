"""A limit on the CPU time of code from a model folder, such as a chat template."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Limit the CPU time of a `with` block: its code raises TimeoutError after `seconds` of this thread's CPU time.

    The check runs at every line of Python; a single call into C is not interrupted.
    """
    end = time.thread_time() + seconds

    def check(frame: FrameType, event: str, argument: Any) -> Any:
        if time.thread_time() > end:
            raise TimeoutError(f"more than {seconds:g} s of CPU time")
        return check

    before = sys.gettrace()
    sys.settrace(check)
    try:
        yield
    finally:
        sys.settrace(before)
