"""NaVQA (ReMEmbR): what, when, how long and where, asked of a robot about up to half an hour of its drive.

Each question has a time at which the robot's memory begins, so no two questions share a stream. Answers to "when" and
"how long" have an error in minutes, and answers to "where" one in metres: the place is where the frame that a search
for the question finds best was recorded. The official scorer leaves out free texts; here they are compared or judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flash_vstream_ros.evaluation.annotations import Entry, read_json
from flash_vstream_ros.evaluation.coda_frames import CodaFrames, frame_times
from flash_vstream_ros.evaluation.item import AnswerKind, DataError, Item
from flash_vstream_ros.evaluation.records import Record

from .benchmark import Benchmark

SEQUENCES = (0, 3, 4, 6, 16, 21, 22)
TEXT = "text"
KINDS = {
    "binary": (AnswerKind.YES_NO, "Answer with Yes or No only."),
    "position": (AnswerKind.POSITION, ""),
    "time": (AnswerKind.MINUTES, "How many minutes ago was it? Answer with the number of minutes only."),
    "duration": (AnswerKind.MINUTES, "Answer with the number of minutes only."),
    TEXT: (AnswerKind.OPEN, "Answer in a few words."),
}
COUNTS = {"binary": 67, "position": 71, "time": 30, "duration": 9, TEXT: 33}
UNITS = {"position": "m", "time": "min", "duration": "min"}  # of errors
FILE = "human_qa.json"


def _read(folder: Path) -> list[Item]:
    questions = folder / "data" / "questions"
    sequences = [sequence for sequence in SEQUENCES if (questions / str(sequence)).is_dir()]
    if not sequences:
        raise DataError(f"{questions} has no folder with {FILE} of the sequences {', '.join(map(str, SEQUENCES))}")
    return [item for sequence in sequences for item in _sequence(folder, questions / str(sequence) / FILE)]


def _sequence(folder: Path, path: Path) -> Iterator[Item]:
    video = folder / "coda_data" / path.parent.name
    first_s = min(frame_times(video), default=0.0)
    for entry in Entry(read_json(path), f"{path.parent.name}/{FILE}").entries("data"):
        yield _item(entry, video, first_s)


def _task(kind: str) -> str:
    return f"{kind} [{UNITS[kind]}]" if kind in UNITS else kind


def _item(entry: Entry, video: Path, first_s: float) -> Item:
    name = entry.text("type")
    if name not in KINDS:
        raise DataError(f"{entry.where}: type {name!r} is none of {', '.join(KINDS)}")
    kind, form = KINDS[name]
    # The official text begins with the time and the place of the question, which are not in this memory's terms.
    question = entry.text("question").rsplit("\n", 1)[-1].strip()
    return Item(
        entry.text("id"),
        video,
        entry.number("end_time") - first_s,
        question if kind is AnswerKind.POSITION else f"{question}\n{form}",
        _answer(entry, name),
        kind,
        _task(name),
        question=question,
        start_s=entry.number("start_time") - first_s,
    )


def _answer(entry: Entry, name: str) -> str:
    answers = entry.entry("answers")
    if name == "position":
        position = answers.numbers(name)
        if len(position) != 3:
            raise DataError(f"{answers.where}: position has {len(position)} instead of 3 coordinates")
        return ", ".join(map(str, position))
    if name in UNITS:
        return str(answers.number(name))
    texts = answers.texts("text")
    if name == TEXT:
        return texts[0]
    answer = texts[-1].strip().lower()
    if answer not in ("yes", "no"):
        raise DataError(f"{answers.where}: the answer {texts[-1]!r} is neither yes nor no")
    return answer


def published_rule(item: Item, record: Record) -> float | None:
    """Score by the official scorer: the response is "yes" or "no" and nothing else; free texts are left out."""
    return float(record.response.strip().lower() == item.answer) if item.kind is AnswerKind.YES_NO else None


NAVQA = Benchmark(
    "navqa",
    "NaVQA",
    fps=2.0,  # six frames for each caption of three seconds
    max_new_tokens=64,
    instruction="",
    counts={_task(name): count for name, count in COUNTS.items()},
    read=_read,
    published_rule=published_rule,
    open_video=CodaFrames,
)
