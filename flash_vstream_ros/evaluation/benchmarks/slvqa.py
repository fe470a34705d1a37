"""SLVQA v5: choices about ten streams of 24 hours, at a time of the stream.

The set "perception" asks about the last five minutes, and "memory" about what happened ten minutes to 24 hours before.
The readable part of the specification names the fields up to the question, but not those of the options and of the
right answer. So several usual names and forms are accepted here, and any other is an error that lists the fields.
"""

from __future__ import annotations

import string
from functools import partial
from pathlib import Path

from flash_vstream_ros.evaluation.annotations import ALL_TASKS, Entry, find_video, read_lines
from flash_vstream_ros.evaluation.item import AnswerKind, DataError, Item
from flash_vstream_ros.evaluation.parsing import option_letter
from flash_vstream_ros.evaluation.records import Record

from .benchmark import Benchmark

COUNTS = {"perception": 3200, "memory": 3163}
TASKS = {"perception": ("OCR", "ACR", "ATR", "STU", "FPD", "OJR"), "memory": ("EPM", "ASI", "HLD")}
OPTION_FIELDS, ANSWER_FIELDS = ("options", "choices"), ("answer", "gt")
LETTERS = string.ascii_uppercase


def _read(folder: Path, part: str) -> list[Item]:
    return [_item(entry, folder, part) for entry in read_lines(folder / part / "data" / "annotations.jsonl")]


def _item(entry: Entry, folder: Path, part: str) -> Item:
    task, question = entry.text("task"), entry.text("question")
    if task not in TASKS[part]:
        raise DataError(f"{entry.where}: task {task!r} is none of {', '.join(TASKS[part])}")
    options = _options(entry)
    lettered = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    form = "Answer with the letter of the best option only."
    return Item(
        entry.label("id"),
        find_video([folder, folder / part], (entry.text("video"),)),
        entry.number("question_time_sec"),
        "\n".join([f"Question: {question}", *lettered, form]),
        _letter(entry, options),
        AnswerKind.CHOICE,
        task,
        question=question,
        options=options,
    )


def _options(entry: Entry) -> tuple[str, ...]:
    """Options without their letters."""
    name = entry.first_of(OPTION_FIELDS)
    options = entry.lettered_texts(name)
    if not 2 <= len(options) <= len(LETTERS):
        raise DataError(f"{entry.where}: {name} has {len(options)} options")
    return options


def _letter(entry: Entry, options: tuple[str, ...]) -> str:
    """Letter of the right option. It is given as a number from 0, or as a letter or a text of which one fits."""
    name = entry.first_of(ANSWER_FIELDS)
    answer = entry.whole_or_text(name)
    letters = LETTERS[: len(options)]
    if isinstance(answer, int):
        fitting = {letters[answer]} if 0 <= answer < len(options) else set()
    else:
        by_text = {letter for letter, option in zip(letters, options, strict=True) if option == answer.strip()}
        by_letter = {answer.strip().upper()} & set(letters)
        read = option_letter(answer, options)
        fitting = by_text | by_letter or ({read} if read else set())
    if len(fitting) != 1:
        problem = "fits several" if fitting else "is none"
        raise DataError(f"{entry.where}: {name} {answer!r} {problem} of {len(options)} options")
    return fitting.pop()


def published_rule(item: Item, record: Record) -> float:
    """1 if the response is the right option. An official scorer could not be read; this one never guesses."""
    return float(option_letter(record.response, item.options) == item.answer)


SLVQA = tuple(
    Benchmark(
        f"slvqa_{part}",
        f"SLVQA, part {part}",
        fps=1.0,
        max_new_tokens=32,
        instruction="",
        counts={ALL_TASKS: count},
        read=partial(_read, part=part),
        published_rule=published_rule,
    )
    for part, count in COUNTS.items()
)
