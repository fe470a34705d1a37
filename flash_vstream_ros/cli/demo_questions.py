"""The questions of the demo: derives them from the simulated world, asks over /ask_scene, and scores the answers."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.scoring import Question, right
from flash_vstream_ros.demo.simulated_run import (
    PATROL_START_S,
    SimulatedRun,
    SimulatedRunError,
    ask,
    process,
    simulated_run,
)
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.engine.contact_sheet import KEY_FRAME, SYNOPSIS, Thumbnail, sheet_file
from flash_vstream_ros.models.model_kind import without_label
from flash_vstream_ros.ros.stamps import seconds

from .output_files import write_output
from .reply_output import MODEL_NOTES

QUESTIONS = 10
EVIDENCE = 64  # more entries than the memory has, so that the reply contains all of them


class Asked(NamedTuple):
    """One question of the demo and its answer. `truth` is the right answer; times are in seconds."""

    kind: str
    question: str
    answer: str
    truth: str
    right: bool
    time_to_first_token: float
    duration: float
    token_probability: float
    confidence: float
    calibrated: bool
    memory_tokens: int
    model_kind: int


def run_demo(args: argparse.Namespace) -> None:
    """Run the patrol, ask the questions, print the answers, write the files. Raises SimulatedRunError, OutputError."""
    parameters = ["summary.period_s:=4.0", f"question.evidence:={EVIDENCE}"]
    world = World(args.seed)
    with (
        _page(args) as page,
        simulated_run(args.seed, args.model, args.rate, parameters, args.ros_args) as run,
    ):
        replies = [_ask(run, question) for question in _questions(world, args.seed)]
        run.client.spin(1.5)
        _report(args, run, replies)
        if page is not None:
            _stay(run, page)


@contextmanager
def _page(args: argparse.Namespace) -> Iterator[subprocess.Popen[bytes] | None]:
    """The process that serves the web page of the node, if it is asked for."""
    if args.web is None:
        yield None
        return
    with process(["web", "--open", "--port", str(args.web), *args.ros_args]) as page:
        yield page


def _stay(run: SimulatedRun, page: subprocess.Popen[bytes]) -> None:
    """Keep the node running as long as the page is served."""
    print("the node keeps running, so that you can ask it on the page: Ctrl-C ends both", flush=True)
    while page.poll() is None:
        run.client.spin(1.0)
    raise SimulatedRunError(f"the web page ended with exit status {page.returncode}")


def _report(args: argparse.Namespace, run: SimulatedRun, replies: Sequence[tuple[Asked, list[Thumbnail]]]) -> None:
    """Print the answers, and write the files. Raises OutputError."""
    asked, status = [item for item, _ in replies], run.newest["status"]
    _print(asked, status, run.newest.get("summary"))
    write_output(args.sheet, sheet_file(replies[-1][1], ".png"))
    print(f"wrote {args.sheet}, a contact sheet of the memory's images")
    if args.json:
        write_output(args.json, json.dumps(_figures(asked, status), indent=2, ensure_ascii=False) + "\n")
        print(f"wrote {args.json}")


def _questions(world: World, seed: int) -> list[Question]:
    """Questions that can be answered at the end of the patrol, of as many kinds as possible."""
    asked = questions(world.visits, world.duration, np.random.default_rng(seed))
    firsts = {question.kind: question for question in reversed(asked)}
    # `sorted` is stable: the first question of each kind comes before all others.
    return sorted(asked, key=lambda question: firsts[question.kind] is not question)[:QUESTIONS]


def _ask(run: SimulatedRun, question: Question) -> tuple[Asked, list[Thumbnail]]:
    """The answer, and thumbnails of the memory entries that it attended to."""
    reply = ask(run, question.text)
    asked = Asked(
        kind=question.kind,
        question=question.text,
        answer=reply.answer,
        truth=question.answer,
        right=right(question, without_label(reply.answer)),
        time_to_first_token=seconds(reply.time_to_first_token),
        duration=seconds(reply.duration),
        token_probability=reply.token_probability,
        confidence=reply.confidence,
        calibrated=reply.calibrated,
        memory_tokens=reply.memory_tokens,
        model_kind=int(reply.model_kind),
    )
    return asked, [_thumbnail(entry) for entry in sorted(reply.evidence, key=_patrol_time)]


def _patrol_time(entry: Any) -> tuple[float, int]:
    """Sorting key: the time of the thumbnail, in seconds of the patrol, and the kind of the entry."""
    return seconds(entry.thumbnail.header.stamp) - PATROL_START_S, -entry.kind


def _thumbnail(entry: Any) -> Thumbnail:
    is_key_frame = entry.kind == entry.KEY_FRAME
    text = caption("key frame" if is_key_frame else "synopsis", _patrol_time(entry)[0], entry.weight)
    return Thumbnail(text, KEY_FRAME if is_key_frame else SYNOPSIS, bytes(entry.thumbnail.data))


def caption(kind: str, patrol_s: float, weight: float) -> str:
    """Kind, time of the patrol and weight of a memory entry."""
    minutes, rest = divmod(round(patrol_s), 60)
    return f"{kind} {minutes}:{rest:02d} w {weight:.3g}"


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
            "not_sampled": status.frames_not_sampled,
            "dropped": status.frames_dropped,
        },
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _print(asked: Sequence[Asked], status: Any, summary: Any) -> None:
    console = Console()
    table = Table("question", "answer", "truth", "right", "first token", title="asked over /ask_scene")
    for item in asked:
        table.add_row(
            escape(item.question),
            escape(_one_line(item.answer)),
            item.truth,
            "yes" if item.right else "no",
            f"{1e3 * item.time_to_first_token:.0f} ms",
        )
    console.print(table)
    console.print(f"{sum(item.right for item in asked)} of {len(asked)} answers are right")
    console.print(
        f"frames: {status.frames_received} received = {status.frames_encoded} encoded + {status.frames_static} static"
        f" + {status.frames_not_sampled} not sampled"
        f" + {status.frames_dropped} dropped + {status.frames_pending} pending"
    )
    console.print(
        f"memory: {status.memory_entries} of at most {status.memory_capacity} entries for {status.slots} slots,"
        f" {status.memory_tokens} tokens, {status.memory_bytes / 1e6:.1f} MB"
    )
    if summary is not None:
        console.print(f"summary of {summary.frames} frames: {escape(_one_line(summary.text))}")
    for note in sorted({MODEL_NOTES[item.model_kind] for item in asked if item.model_kind in MODEL_NOTES}):
        console.print(note)
