"""Runs the demo's patrol through a real node; camera and node are separate processes that communicate over DDS."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flash_vstream_ros.ros.share import household_parameters

if TYPE_CHECKING:
    from flash_vstream_ros.client import AskClient

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
DRAIN_TIMEOUT_S = 30.0
CAMERA_FPS = 1
PATROL_START_S = 1000.0  # stamp of the camera's first frame


class SimulatedRunError(RuntimeError):
    """A process of the run failed; the message ends with the node's log."""


@dataclass(frozen=True)
class SimulatedRun:
    """A running node that has received a patrol. `newest` has its last messages, "status" and "summary"."""

    client: AskClient
    newest: dict[str, Any] = field(default_factory=dict)


@contextmanager
def process(arguments: Sequence[str], log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of this package in a child process, and end it by SIGTERM.

    Not by SIGINT, which a shell's background process and its children ignore.
    """
    command = [sys.executable, "-m", "flash_vstream_ros.cli", *arguments]
    output = log.open("wb") if log else None
    started = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT if log else None
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.terminate()
            try:
                started.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
        if output:
            output.close()


@contextmanager
def simulated_run(
    seed: int, model: str, rate: float, parameters: Sequence[str] = (), ros_args: Sequence[str] = ()
) -> Iterator[SimulatedRun]:
    """Start a node with config/household.yaml and `parameters` (name:=value), and play the patrol of `seed` to it.

    Yields once the node has ingested the whole patrol. Raises SimulatedRunError.
    """
    from flash_vstream_ros.client import AskClient

    with tempfile.TemporaryDirectory(prefix="flash_vstream_") as folder:
        log = Path(folder) / "node.log"
        node = ["node", "--model", model, "--params-file", household_parameters()]
        node += ["--ros-args", *(word for parameter in parameters for word in ("-p", parameter))]
        try:
            with process(node, log) as running, AskClient("ask_scene", ros_args) as client:
                run = SimulatedRun(client)
                _subscribe(run)
                _play_patrol(run, seed, rate, running)
                yield run
        except SimulatedRunError as error:
            raise SimulatedRunError(f"{error}\nlog of the node:\n{log.read_text(errors='replace')}") from error


def _subscribe(run: SimulatedRun) -> None:
    """Keep the newest status and summary of the node in `run.newest`."""
    from flash_vstream_ros.ros import DurabilityPolicy, QoSProfile
    from flash_vstream_ros.ros.interfaces import MemoryStatus, SceneSummary

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node, newest = run.client.node, run.newest
    node.create_subscription(MemoryStatus, "flash_vstream/status", lambda message: newest.update(status=message), 10)
    node.create_subscription(SceneSummary, "scene_summary", lambda message: newest.update(summary=message), latched)


def _play_patrol(run: SimulatedRun, seed: int, rate: float, node: subprocess.Popen[bytes]) -> None:
    """Wait until the node is ready, publish the patrol, and wait until the node has ingested it."""
    from flash_vstream_ros.client import ClientError

    client = run.client
    try:
        ready = client.ask_when_ready(client.request("Are you there?"), START_TIMEOUT_S)
    except ClientError as error:
        raise SimulatedRunError(str(error)) from error
    if ready.error_code == ready.NOT_READY:
        raise SimulatedRunError(ready.error_msg)
    print(f"the node is ready; the robot patrols a simulated house at {rate:g} times real time")
    camera = ["replay", f"demo:{seed}", "--rate", str(rate), "--fps", str(CAMERA_FPS)]
    with process([*camera, "--start-at", str(PATROL_START_S)]) as source:
        while source.poll() is None:
            client.spin(0.2)
    if source.returncode:
        raise SimulatedRunError(f"the camera ended with exit status {source.returncode}")
    until = time.monotonic() + DRAIN_TIMEOUT_S
    run.newest.pop("status", None)
    while time.monotonic() < until and node.poll() is None:
        client.spin(0.2)
        status = run.newest.get("status")
        if status is not None and status.frames_received and not status.frames_pending:
            return
    raise SimulatedRunError(f"the node did not ingest the camera's frames within {DRAIN_TIMEOUT_S:g} s")


def ask(run: SimulatedRun, question: str, max_new_tokens: int = 64) -> Any:
    """Ask a question. Returns the AskScene response. Raises SimulatedRunError if it is an error."""
    reply = run.client.ask(run.client.request(question, max_new_tokens=max_new_tokens))
    if reply.error_code:
        raise SimulatedRunError(f"{question!r} was answered with error {reply.error_code}: {reply.error_msg}")
    return reply
