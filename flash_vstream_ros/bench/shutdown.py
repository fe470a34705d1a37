"""Measures how the node ends at a signal: exit status, duration, and errors in its log.

    python -m flash_vstream_ros.bench.shutdown --rounds 100 --busy 2

Each round starts the node in a new process, and sends the signal at another moment of its first second of work.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flash_vstream_ros.progress import tracked

LIMIT_S = 2.0
START_S = 200.0
HANG_S = 20.0
STEP_S = 0.05  # difference of the moments of two rounds
MOMENTS = 20
# Tracebacks of Python, errors of rclpy and its futures, and errors of rcl after the end of the context.
NOISE = re.compile(r"Traceback|^[\w.]+Error\b|Destroyable|never retrieved|context is invalid|did not stop within")
ARGUMENTS = ("-p", "model.max_pixels:=12544", "-p", "model.warm_up:=false", "-p", "status.period_s:=0.05")


@dataclass(frozen=True)
class Way:
    """The signals that end a process. `background`: the process ignores SIGINT, like one after a shell's `&`."""

    name: str
    signals: tuple[signal.Signals, ...]
    background: bool = False


WAYS = (
    Way("Ctrl-C", (signal.SIGINT,)),
    Way("SIGTERM", (signal.SIGTERM,)),
    Way("Ctrl-C passed on by a launch file", (signal.SIGINT, signal.SIGINT)),
    Way("SIGTERM in a shell's background", (signal.SIGTERM,), background=True),
)


@dataclass(frozen=True)
class Ending:
    """The result of one round. `status` is None if the process had to be killed."""

    way: str
    status: int | None
    seconds: float
    noise: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return self.status == 0 and self.seconds <= LIMIT_S and not self.noise


def run(rounds: int = 100, busy: int = 0) -> dict[str, Any]:
    """End `rounds` nodes, alternately in all ways, while `busy` processes compute without a pause."""
    from flash_vstream_ros.ros import RUNTIME
    from flash_vstream_ros.ros.private_domain import use_private_domain

    use_private_domain()
    numbers = tracked(range(rounds), "ending nodes", total=rounds)
    with busy_processes(busy):
        endings = [end_node(WAYS[number % len(WAYS)], number // len(WAYS)) for number in numbers]
    seconds = [ending.seconds for ending in endings]
    return {
        "runtime": RUNTIME,
        "rounds": rounds,
        "busy": busy,
        "clean": sum(ending.clean for ending in endings),
        "median_s": statistics.median(seconds),
        "longest_s": max(seconds),
        "load": os.getloadavg()[0],
        "not_clean": [vars(ending) for ending in endings if not ending.clean],
    }


def end_node(way: Way, number: int) -> Ending:
    """Start a node, wait until its model is loaded, and end it. `number` determines the moment."""
    command = [sys.executable, "-m", "flash_vstream_ros.cli", "node", "--model", "tiny-random"]
    with tempfile.TemporaryDirectory(prefix="flash_vstream_") as folder:
        log = Path(folder) / "node.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--ros-args", *ARGUMENTS],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_ignore_interrupt if way.background else _handle_interrupt,
            )
        try:
            _wait_until_ready(process, log)
            time.sleep(STEP_S * (number % MOMENTS))
            if way.background:
                process.send_signal(signal.SIGINT)
                time.sleep(STEP_S)
            seconds = _end(process, way.signals)
        finally:
            if killed := process.poll() is None:
                process.kill()
                process.wait()
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return Ending(way.name, None if killed else process.returncode, seconds, tuple(filter(NOISE.search, lines)))


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Run `count` processes that compute without a pause in a `with` block."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while b": ready: " not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the node did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(STEP_S)


def _end(process: subprocess.Popen[bytes], signals: Sequence[signal.Signals]) -> float:
    """Send the signals. Returns the time until the process has ended [s]."""
    begun = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(STEP_S / 10)
    with suppress(subprocess.TimeoutExpired):
        process.wait(HANG_S)
    return time.monotonic() - begun


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _handle_interrupt() -> None:
    """Restore the default of SIGINT, which this process ignores if a shell started it with `&`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def show(result: dict[str, Any]) -> None:
    print(
        f"{result['clean']} of {result['rounds']} ended cleanly (status 0, within {LIMIT_S:g} s, nothing but log lines)"
        f" on {result['runtime']} with {result['busy']} busy processes: median {result['median_s']:.2f} s, longest"
        f" {result['longest_s']:.2f} s, load average {result['load']:.1f}"
    )
    for ending in result["not_clean"]:
        print(f"  {ending['way']}: status {ending['status']}, {ending['seconds']:.2f} s; {'; '.join(ending['noise'])}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=100, help="nodes that are started and ended (default: 100)")
    parser.add_argument("--busy", type=int, default=0, help="processes that compute meanwhile (default: 0)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    arguments = parser.parse_args()
    figures = run(arguments.rounds, arguments.busy)
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if figures["clean"] == figures["rounds"] else 1)
