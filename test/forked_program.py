"""The command line in a process of its own that need not import PyTorch: it is forked from one that has.

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
from collections.abc import Sequence
from pathlib import Path

PRELOADED = [
    "flash_vstream_ros.node.vstream_node",
    "flash_vstream_ros.models.load",
    "flash_vstream_ros.models.families",
]
PRELOADED += ["transformers.models.qwen2_vl.modeling_qwen2_vl", "transformers.models.qwen2.tokenization_qwen2"]

_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(PRELOADED)


class ForkedProgram:
    """`flash-vstream-ros` with `arguments`, and its output in a file: the part of subprocess.Popen that tests use."""

    def __init__(self, arguments: Sequence[str], output: Path) -> None:
        job = (tuple(arguments), dict(os.environ), str(output), os.getpid())
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


def _run(arguments: tuple[str, ...], environment: dict[str, str], output: str, test_process: int) -> None:
    """Run the program in the forked child."""
    # A node that outlives a killed test would answer the next test on its domain.
    threading.Thread(target=_end_with, args=(test_process,), daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    random.seed()
    faulthandler.enable()
    sys.argv = ["flash-vstream-ros", *arguments]
    from flash_vstream_ros.cli import main

    sys.exit(main())


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
