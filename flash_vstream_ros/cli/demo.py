"""`flash-vstream-ros demo`: a simulated camera, the node, and questions, each a process, all over the wire."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from flash_vstream_ros.cli.contact_sheet import Picture, contact_sheet
from flash_vstream_ros.demo.questions import Question, questions, right
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.models.names import TINY

if TYPE_CHECKING:
    from flash_vstream_ros.client import AskClient

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
DRAIN_TIMEOUT_S = 30.0
CAMERA_FPS = 1
SAMPLE_FPS = 0.5  # two frames of a slot are 2 s apart
PATROL_START_S = 1000.0  # stamp of the camera's first frame
QUESTIONS = 10
ANSWER_TOKENS = 64
EVIDENCE = 64  # the most entries that one answer can bring
# A quarter of the published area: enough for the demo's rooms, and quick on a laptop's CPU.
MAX_PIXELS = 224 * 224


class Asked(NamedTuple):
    """One question of the demo. `truth` is what the simulated world knows, times are in seconds."""

    kind: str
    question: str
    answer: str
    truth: str
    right: bool
    time_to_first_token: float
    duration: float
    confidence: float
    memory_tokens: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write questions, answers, latencies and memory size")
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        default=Path("demo_memory.png"),
        help="write a picture of what the memory holds (default: %(default)s)",
    )
    parser.add_argument("--model", default=TINY, help="hub id or folder (default: %(default)s, untrained)")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated patrol (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=30.0, help="simulated seconds per second (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    from flash_vstream_ros.ros import RUNTIME
    from flash_vstream_ros.ros.private_domain import use_private_domain

    use_private_domain()
    print(f"runtime {RUNTIME}, ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}, model {args.model}")
    print("process 1: the node; process 2: a robot's camera; process 3, this one: asks through /ask_scene")
    with tempfile.TemporaryDirectory(prefix="flash_vstream_demo_") as folder:
        log = Path(folder) / "node.log"
        node = [
            *("node", "--model", args.model, "--ros-args", "-p", f"model.max_pixels:={MAX_PIXELS}"),
            *("-p", f"sample_fps:={SAMPLE_FPS}", "-p", "summary.period_s:=4.0"),
            *("-p", f"question.evidence:={EVIDENCE}"),
        ]
        camera = [
            *("replay", f"demo:{args.seed}", "--rate", str(args.rate), "--fps", str(CAMERA_FPS)),
            *("--start-at", str(PATROL_START_S)),
        ]
        try:
            with process(node, log) as running:
                return _watch_and_ask(args, camera, running)
        except (DemoError, OSError) as error:
            print(f"the demo failed: {error}\nlog of the node:\n{log.read_text(errors='replace')}", file=sys.stderr)
            return 1


class DemoError(RuntimeError):
    """A part of the demo did not do its work."""


@contextmanager
def process(arguments: Sequence[str], log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A command of this command line as a process of its own, ended like a user would: by Ctrl-C."""
    command = [sys.executable, "-m", "flash_vstream_ros.cli", *arguments]
    output = log.open("wb") if log else None
    started = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT if log else None
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGINT)
            try:
                started.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
        if output:
            output.close()


def _watch_and_ask(args: argparse.Namespace, camera: Sequence[str], node: subprocess.Popen[bytes]) -> int:
    from flash_vstream_ros.client import AskClient, NoService
    from flash_vstream_ros.ros import DurabilityPolicy, QoSProfile
    from flash_vstream_ros.ros.interfaces import MemoryStatus, SceneSummary

    world, newest = World(args.seed), dict[str, Any]()
    with AskClient("ask_scene", args.ros_args) as client:
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        client.node.create_subscription(
            MemoryStatus, "flash_vstream/status", lambda message: newest.update(status=message), 10
        )
        client.node.create_subscription(
            SceneSummary, "scene_summary", lambda message: newest.update(summary=message), latched
        )
        try:
            ready = client.ask_when_ready(client.request("Are you there?"), START_TIMEOUT_S)
        except (NoService, TimeoutError) as error:
            raise DemoError(str(error)) from error
        if ready.error_code == ready.NOT_READY:
            raise DemoError(ready.error_msg)
        print(f"the node is ready; the robot patrols a simulated house at {args.rate:g} times real time")
        with process(camera) as source:
            while source.poll() is None:
                client.spin(0.2)
        if source.returncode:
            raise DemoError(f"the camera ended with exit status {source.returncode}")
        status = _drained(client, newest, node)
        replies = [_ask(client, question) for question in _questions(world, args.seed)]
        client.spin(1.5)
        status = newest.get("status", status)
    asked = [item for item, _ in replies]
    _print_report(asked, status, newest.get("summary"))
    # Each answer brings the entries that it attended to most, all of them together nearly everything.
    pictures = list(dict.fromkeys(picture for _, evidence in replies for picture in evidence))
    args.sheet.write_bytes(_png(pictures))
    print(f"written: {args.sheet}, a picture of {len(pictures)} of the {status.memory_entries} entries")
    if args.json:
        args.json.write_text(json.dumps(_report(asked, status), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"written: {args.json}")
    return 0


def _drained(client: Any, newest: dict[str, Any], node: subprocess.Popen[bytes]) -> Any:
    """The status once the node has worked off what the camera sent."""
    until = time.monotonic() + DRAIN_TIMEOUT_S
    newest.pop("status", None)
    while time.monotonic() < until and node.poll() is None:
        client.spin(0.2)
        status = newest.get("status")
        if status is not None and status.frames_received and not status.frames_pending:
            return status
    raise DemoError("the node did not take in what the camera sent")


def _questions(world: World, seed: int) -> list[Question]:
    """Some of those that the end of the patrol allows, of as many kinds as there are."""
    asked = questions(world.visits, world.duration, np.random.default_rng(seed))
    firsts = {question.kind: question for question in reversed(asked)}
    return sorted(asked, key=lambda question: firsts[question.kind] is not question)[:QUESTIONS]


def _ask(client: AskClient, question: Question) -> tuple[Asked, list[Picture]]:
    """The answer, and the memory entries that it attended to."""
    from flash_vstream_ros.client import seconds

    reply = client.ask(client.request(question.text, max_new_tokens=ANSWER_TOKENS))
    if reply.error_code:
        raise DemoError(f"{question.text!r} was answered with error {reply.error_code}: {reply.error_msg}")
    asked = Asked(
        kind=question.kind,
        question=question.text,
        answer=reply.answer,
        truth=question.answer,
        right=right(question, reply.answer),
        time_to_first_token=seconds(reply.time_to_first_token),
        duration=seconds(reply.duration),
        confidence=reply.confidence,
        memory_tokens=reply.memory_tokens,
    )
    pictures = [
        Picture(
            "DAM" if entry.kind == entry.DAM else "CSM",
            seconds(entry.thumbnail.header.stamp) - PATROL_START_S,
            entry.weight,
            bytes(entry.thumbnail.data),
        )
        for entry in reply.evidence
    ]
    return asked, pictures


def _png(pictures: Sequence[Picture]) -> bytes:
    _, png = cv2.imencode(".png", contact_sheet(pictures))
    return png.tobytes()


def _report(asked: Sequence[Asked], status: Any) -> dict[str, Any]:
    return {
        "questions": [item._asdict() for item in asked],
        "memory": {
            "tokens": status.memory_tokens,
            "bytes": status.memory_bytes,
            "entries": status.memory_entries,
            "capacity": status.memory_capacity,
            "slots": status.slots,
        },
        "frames": {
            "received": status.frames_received,
            "encoded": status.frames_encoded,
            "gated": status.frames_gated,
            "dropped": status.frames_dropped,
        },
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _print_report(asked: Sequence[Asked], status: Any, summary: Any) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table("question", "answer", "truth", "right", "first token", title="asked over /ask_scene")
    for item in asked:
        answer = escape(_one_line(item.answer))
        table.add_row(
            escape(item.question),
            answer,
            item.truth,
            "yes" if item.right else "no",
            f"{item.time_to_first_token:.2f} s",
        )
    console.print(table)
    console.print(
        f"frames: {status.frames_received} received = {status.frames_encoded} encoded + {status.frames_gated} gated"
        f" + {status.frames_dropped} dropped + {status.frames_pending} pending"
    )
    console.print(
        f"memory: {status.memory_entries} of at most {status.memory_capacity} entries for {status.slots} slots,"
        f" {status.memory_tokens} tokens, {status.memory_bytes / 1e6:.1f} MB"
    )
    if summary is not None:
        console.print(f"summary of {summary.frames} frames: {escape(_one_line(summary.text))}")
    if any(item.answer.startswith("[untrained]") for item in asked):
        console.print("The model is untrained: what runs is real, what it says is noise.")
