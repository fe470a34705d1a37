"""`flash-vstream-ros demo`: a simulated camera, the node, and questions, each a process, all over the wire."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from flash_vstream_ros.cli.contact_sheet import Picture, contact_sheet
from flash_vstream_ros.demo.questions import Question, questions, right
from flash_vstream_ros.demo.simulated_run import PATROL_START_S, SimulatedRun, SimulatedRunError, ask, simulated_run
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.models.model_kind import without_label
from flash_vstream_ros.models.names import HOUSEHOLD

QUESTIONS = 10
EVIDENCE = 64  # more entries than the memory has


class Asked(NamedTuple):
    """One question of the demo. `truth` is what the simulated world knows, times are in seconds."""

    kind: str
    question: str
    answer: str
    truth: str
    right: bool
    time_to_first_token: float
    duration: float
    token_probability: float
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
    parser.add_argument(
        "--model", default=HOUSEHOLD, help="hub id or folder (default: %(default)s, trained for this world only)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the simulated patrol (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=30.0, help="simulated seconds per second (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    from flash_vstream_ros.ros import RUNTIME
    from flash_vstream_ros.ros.middleware import use_shipped_profile
    from flash_vstream_ros.ros.private_domain import use_private_domain

    use_private_domain()
    use_shipped_profile()
    print(f"runtime {RUNTIME}, ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}, model {args.model}")
    print("process 1: the node; process 2: a robot's camera; process 3, this one: asks through /ask_scene")
    parameters = ["summary.period_s:=4.0", f"question.evidence:={EVIDENCE}"]
    world = World(args.seed)
    try:
        with simulated_run(args.seed, args.model, args.rate, parameters, args.ros_args) as simulated:
            replies = [_ask(simulated, question) for question in _questions(world, args.seed)]
            simulated.client.spin(1.5)
        _report(args, [item for item, _ in replies], replies[-1][1], **simulated.newest)
    except (SimulatedRunError, OSError) as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1
    return 0


def _questions(world: World, seed: int) -> list[Question]:
    """Some of those that the end of the patrol allows, of as many kinds as there are."""
    asked = questions(world.visits, world.duration, np.random.default_rng(seed))
    firsts = {question.kind: question for question in reversed(asked)}
    return sorted(asked, key=lambda question: firsts[question.kind] is not question)[:QUESTIONS]


def _ask(simulated: SimulatedRun, question: Question) -> tuple[Asked, list[Picture]]:
    """The answer, and the memory entries that it attended to."""
    from flash_vstream_ros.ros.stamps import seconds

    reply = ask(simulated, question.text)
    asked = Asked(
        kind=question.kind,
        question=question.text,
        answer=reply.answer,
        truth=question.answer,
        right=right(question, without_label(reply.answer)),
        time_to_first_token=seconds(reply.time_to_first_token),
        duration=seconds(reply.duration),
        token_probability=reply.token_probability,
        memory_tokens=reply.memory_tokens,
    )
    pictures = [
        Picture(
            "key frame" if entry.kind == entry.KEY_FRAME else "synopsis",
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


def _report(
    args: argparse.Namespace, asked: Sequence[Asked], pictures: Sequence[Picture], status: Any, summary: Any = None
) -> None:
    _print(asked, status, summary)
    args.sheet.write_bytes(_png(pictures))
    print(f"written: {args.sheet}, a picture of what the memory holds")
    if args.json:
        args.json.write_text(json.dumps(_figures(asked, status), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"written: {args.json}")


def _figures(asked: Sequence[Asked], status: Any) -> dict[str, Any]:
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
            "static": status.frames_static,
            "gated": status.frames_gated,
            "dropped": status.frames_dropped,
        },
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _print(asked: Sequence[Asked], status: Any, summary: Any) -> None:
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
            f"{1e3 * item.time_to_first_token:.0f} ms",
        )
    console.print(table)
    console.print(f"{sum(item.right for item in asked)} of {len(asked)} answers are right")
    console.print(
        f"frames: {status.frames_received} received = {status.frames_encoded} encoded + {status.frames_static} static"
        f" + {status.frames_gated} gated"
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
