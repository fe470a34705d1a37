"""A function, or the command line, in a process of its own, forked from one that has imported PyTorch.

A new interpreter spends 6 s of CPU on imports before the node starts, which is most of the time that its tests take.
Tests of how a program starts and ends run `python -m flash_vstream_ros.cli` instead.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import random
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PRELOADED = [
    "flash_vstream_ros.node.vstream_node",
    "flash_vstream_ros.models.load",
    "flash_vstream_ros.models.families",
]
PRELOADED += ["transformers.models.qwen2_vl.modeling_qwen2_vl", "transformers.models.qwen2.tokenization_qwen2"]

_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(PRELOADED)


class ForkedProcess:
    """`function(*arguments)` in a forked process, and its output in a file, with the methods of Popen that tests use.

    The function must be importable, and the arguments picklable.
    """

    def __init__(self, function: Callable[..., None], arguments: Sequence[Any], output: Path) -> None:
        job = (function, tuple(arguments), dict(os.environ), str(output), os.getpid())
        self._process = _forkserver.Process(target=_run, args=job, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if (status := self._process.exitcode) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired("flash-vstream-ros", timeout)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal; without effect on a process that has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


class ForkedProgram(ForkedProcess):
    """`flash-vstream-ros` with `arguments` in a forked process."""

    def __init__(self, arguments: Sequence[str], output: Path) -> None:
        super().__init__(_program, arguments, output)


def _program(*arguments: str) -> None:
    sys.argv = ["flash-vstream-ros", *arguments]
    from flash_vstream_ros.cli import main

    sys.exit(main())


def _run(
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    environment: dict[str, str],
    output: str,
    test_process: int,
) -> None:
    """Run the function in the forked child."""
    # A node that outlives a killed test would answer the next test on its domain.
    threading.Thread(target=_end_with, args=(test_process,), daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    random.seed()
    faulthandler.enable()
    function(*arguments)


def _end_with(process: int) -> None:
    """End this process as soon as `process` has ended."""
    try:
        ended = os.pidfd_open(process)
    except ProcessLookupError:
        os._exit(1)
    except OSError:  # a kernel without it
        return
    select.select([ended], [], [])
    os._exit(1)
