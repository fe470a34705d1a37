"""OVO-Bench: backward tracing, real-time perception and forward responding at a time of a stream.

Papers quote three different averages; all are computed. Videos are the sources, so that the questions about one video
share one stream, or the published chunks that end at the question's time.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from pathlib import Path

from flash_vstream_ros.evaluation.annotations import Entry, find_video, first_file, read_entries
from flash_vstream_ros.evaluation.item import AnswerKind, DataError, Item
from flash_vstream_ros.evaluation.records import Record

from .benchmark import Benchmark

BACKWARD, REAL_TIME, FORWARD = "backward", "real-time", "forward"
COUNTS = {
    BACKWARD: {"EPM": 297, "HLD": 186, "ASI": 148},
    REAL_TIME: {"STU": 178, "OJR": 184, "ATR": 116, "FPD": 101, "ACR": 109, "OCR": 149},
    FORWARD: {"CRR": 240, "SSR": 629, "REC": 698},  # prompts
}
PART_OF = {task: part for part, counts in COUNTS.items() for task in counts}
LETTERS = string.ascii_uppercase
ANSWER_ONLY = "Answer with {} only, without an explanation."


def _read(folder: Path) -> list[Item]:
    path = first_file(folder, ("data/ovo_bench_new.json", "ovo_bench_new.json"))
    roots = [folder, folder / "data"]
    chunks = [root / name for root in roots for name in ("chunked_videos", ".")]
    sources = [root / name for root in roots for name in ("src_videos", ".")]
    return [item for entry in read_entries(path) for item in _items(entry, sources, chunks)]


def _items(entry: Entry, sources: list[Path], chunks: list[Path]) -> Iterator[Item]:
    task, identity = entry.text("task"), entry.label("id")
    if task not in PART_OF:
        raise DataError(f"{entry.where}: task {task!r} is none of {', '.join(PART_OF)}")
    if PART_OF[task] != FORWARD:
        video = _video(entry, identity, sources, chunks)
        yield _choice(entry, identity, task, video)
        return
    for number, test in enumerate(entry.entries("test_info")):
        video = _video(entry, f"{identity}_{number}", sources, chunks)
        yield _forward(entry, test, f"{identity}_{number}", task, video)


def _video(entry: Entry, identity: str, sources: list[Path], chunks: list[Path]) -> Path:
    source = find_video(sources, (entry.text("video"),))
    chunk = find_video(chunks, (f"{identity}.mp4",))
    return chunk if chunk.exists() and not source.exists() else source


def _choice(entry: Entry, identity: str, task: str, video: Path) -> Item:
    options, right, question = entry.texts("options"), entry.whole("gt"), entry.text("question")
    if not 0 <= right < len(options):
        raise DataError(f"{entry.where}: gt is {right}, and there are {len(options)} options")
    lettered = " ".join(f"{letter}. {option};" for letter, option in zip(LETTERS, options, strict=False))
    prompt = f"Question: {question}\nOptions: {lettered}\n{ANSWER_ONLY.format('the letter of the best option')}"
    return Item(
        identity,
        video,
        entry.number("realtime"),
        prompt,
        LETTERS[right],
        AnswerKind.CHOICE,
        task,
        PART_OF[task],
        question,
        options,
    )


def _forward(entry: Entry, test: Entry, identity: str, task: str, video: Path) -> Item:
    if task == "REC":
        question = f"How many times did they {entry.text('activity')}?"
        lead = "People in the video may repeat an action. Count all complete repetitions, by whomever."
        kind, answer, form = AnswerKind.COUNT, str(test.whole("count")), "a number"
    else:
        kind, form = AnswerKind.YES_NO, "Yes or No"
        answer = "yes" if test.whole("type") else "no"
        if task == "SSR":
            question = test.text("step")
            lead = "The video is a tutorial. Is the person now performing this step?"
        else:
            question = entry.text("question")
            lead = "Does the video, its end above all, show enough to answer this question?"
    prompt = f"{lead}\n{question}\n{ANSWER_ONLY.format(form)}"
    return Item(identity, video, test.number("realtime"), prompt, answer, kind, task, PART_OF[task], question)


def published_rule(item: Item, record: Record) -> float:
    """Score by the official scorer: 1 if the response contains the letter or word, or if its digits are the count."""
    response = record.response
    if item.kind is AnswerKind.COUNT:
        return float("".join(re.findall(r"\d+", response)) == item.answer)
    if item.kind is AnswerKind.YES_NO:
        return float(response == item.answer[0].upper() or item.answer.capitalize() in response)
    return float(item.answer in response)


OVO_BENCH = Benchmark(
    "ovo_bench",
    "OVO-Bench",
    fps=1.0,
    max_new_tokens=128,
    instruction="",
    counts={task: count for counts in COUNTS.values() for task, count in counts.items()},
    read=_read,
    published_rule=published_rule,
    averages={
        "(backward + real-time + forward) / 3": (BACKWARD, REAL_TIME, FORWARD),
        "(backward + real-time) / 2": (BACKWARD, REAL_TIME),
        "real-time only": (REAL_TIME,),
    },
)
