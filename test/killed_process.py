"""Output of a process that is killed at some moment."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from conftest import wait_until
from forked_program import ForkedProcess


def output_until_killed(function: Callable[..., None], arguments: Sequence[Any], output: Path, after_s: float) -> str:
    """What `function(*arguments)` prints in a forked process that is killed `after_s` seconds after it said "ready"."""
    process = ForkedProcess(function, arguments, output)
    assert wait_until(lambda: output.exists() and "ready" in output.read_text(), 120.0)
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    process.wait(30.0)
    return output.read_text()
