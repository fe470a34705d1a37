"""Fixtures for all tests: a ROS domain for this test process alone, and processes that never outlive their test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("cyclonedds") is not None:
    os.environ.setdefault("FLASH_VSTREAM_RUNTIME", "embedded")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes of pytest-xdist already use every core

import flash_vstream_ros
from flash_vstream_ros.ros.private_domain import claim_domain

os.environ["ROS_DOMAIN_ID"] = str(claim_domain())
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

from flash_vstream_ros.ros.middleware import use_shipped_profile  # after the choice of a runtime

use_shipped_profile()

# A shell starts background commands with SIGINT ignored, and their children inherit that: tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
PACKAGE_FOLDER = str(Path(flash_vstream_ros.__file__).parents[1])  # the source tree, or where colcon installed it
PATIENCE = 60.0  # [s] generous: the machines that run tests are slow and shared


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file in one process, since they share a node that takes seconds to start."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # the order of `pytest_collection_modifyitems`
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process waits for one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def wait_until(condition: Callable[[], object], timeout: float = PATIENCE) -> bool:
    """Whether `condition()` becomes true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def reply_of(client: Any, request: Any) -> Any:
    """The reply of a service whose client another thread spins."""
    future = client.call_async(request)
    assert wait_until(future.done), f"no reply from {client.srv_name}"
    return future.result()


class Process:
    """A Python script in a process of its own."""

    def __init__(self, path: Path, args: tuple[str, ...], environment: dict[str, str]) -> None:
        search = os.pathsep.join(filter(None, [PACKAGE_FOLDER, os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-u", str(path), *args],
            env={**os.environ, "PYTHONPATH": search, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self._process.stdout, self.lines), (self._process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Iterator[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))  # noqa: PERF401 (seen as they come)

    @property
    def stderr(self) -> str:
        return "\n".join(self.errors)

    def expect(self, line: str, timeout: float = PATIENCE) -> None:
        """Wait until the process has printed `line`."""
        found = wait_until(lambda: line in self.lines or self._process.poll() is not None, timeout)
        assert found, f"no {line!r} in {self.lines}, stderr: {self.stderr}"
        if self._process.poll() is not None:
            self.wait(timeout)  # for what it printed at its end
        assert line in self.lines, f"ended without {line!r}: {self.lines}, stderr: {self.stderr}"

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit code, once the process has ended by itself."""
        code = self._process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return code

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """start(code, *args, **environment) runs a script; what still runs at the end of the test is killed."""
    running: list[Process] = []

    def start_one(code: str, *args: str, **environment: str) -> Process:
        path = tmp_path / f"script{len(running)}.py"
        path.write_text(textwrap.dedent(code), encoding="utf-8")
        running.append(Process(path, args, environment))
        return running[-1]

    yield start_one
    for process in running:
        process.kill()


@pytest.fixture(scope="module")
def household() -> Iterator[Any]:
    """The household model, on as many threads as it is fastest with."""
    import torch

    from flash_vstream_ros.models.household_settings import LOADING, THREADS
    from flash_vstream_ros.models.load import load_model
    from flash_vstream_ros.models.names import HOUSEHOLD

    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield load_model(HOUSEHOLD, device="cpu", **LOADING)
    torch.set_num_threads(threads)


@pytest.fixture
def console(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """console() returns what this process has printed to stderr since the test began, also while threads print.

    `capfd.readouterr` discards what a thread prints between its read and its truncation; a file opened anew does not.
    """
    return lambda: Path("/dev/fd/2").read_text(errors="replace")


@pytest.fixture
def ros() -> Iterator[None]:
    """The runtime between init() and shutdown()."""
    from flash_vstream_ros import ros

    ros.init(args=[])
    yield
    ros.try_shutdown()
