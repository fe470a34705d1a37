"""Reads the questions of a fine-tuning: a JSON object a line. Errors name the file, the line and what was expected."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import numpy as np

from flash_vstream_ros.evaluation.annotations import Entry, numbered_lines
from flash_vstream_ros.evaluation.item import WHOLE_VIDEO, DataError

FIELDS = ("video", "question", "answer", "time", "since", "until", "kind")
REPORTED = 10  # bad lines that one error names
FEWEST_VIDEOS = 5  # with fewer videos, single questions are held out


class Moment(NamedTuple):
    """A recording, and the part of it that a question is asked about. Times are since its first frame [s]."""

    source: str  # a file or folder, or "demo:SEED"
    time_s: float = WHOLE_VIDEO  # of the question: later frames are not in the memory
    since_s: float | None = None  # None: that end is open
    until_s: float | None = None


@dataclass(frozen=True)
class Example:
    """A question about a moment, and its answer."""

    where: str  # file and line, for messages
    moment: Moment
    question: str
    answer: str
    kind: str = ""  # group that gets an accuracy of its own

    @property
    def id(self) -> str:
        """Identifies the example among those of several files."""
        return self.where


def read_examples(path: Path, needs_answers: bool = True) -> list[Example]:
    """The examples in a file of JSON lines. Raises DataError with the bad lines.

    Unless it `needs_answers`, answers may be missing, and those given are ignored.
    """
    read = [
        _example_or_problem(line, f"{path}, line {number}", path.parent, needs_answers)
        for number, line in numbered_lines(path)
    ]
    raise_problems([one for one in read if isinstance(one, str)])
    examples = [one for one in read if isinstance(one, Example)]
    if not examples:
        raise DataError(f'{path} has no lines; expected {{"video": ..., "question": ..., "answer": ...}} in each')
    return examples


def raise_problems(problems: Sequence[str]) -> None:
    """Raise a DataError with the first problems, one a line, if there are any."""
    if problems:
        more = f"\nand {len(problems) - REPORTED} more" if len(problems) > REPORTED else ""
        raise DataError("\n".join(problems[:REPORTED]) + more)


def split(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Examples to train on and held-out ones, about `share` of all.

    Videos are held out as a whole, so that none of their memories is trained on; of fewer than FEWEST_VIDEOS videos,
    single questions are. Raises DataError if nothing is left to train on, or nothing is held out.
    """
    if not share:
        return list(examples), []
    groups: dict[str, list[int]] = {}
    videos = {example.moment.source for example in examples}
    for number, example in enumerate(examples):
        groups.setdefault(example.moment.source if len(videos) >= FEWEST_VIDEOS else str(number), []).append(number)
    wanted, out = share * len(examples), set[int]()
    names = list(groups)
    for place in np.random.default_rng(seed).permutation(len(names)):
        if len(out) >= wanted:
            break
        out.update(groups[names[place]])
    if not out or len(out) == len(examples):
        raise DataError(f"a held-out share of {share:g} splits {len(examples)} questions into none and all of them")
    kept = [example for number, example in enumerate(examples) if number not in out]
    return kept, [examples[number] for number in sorted(out)]


def _example_or_problem(line: str, where: str, folder: Path, needs_answer: bool) -> Example | str:
    try:
        return _example(line, where, folder, needs_answer)
    except DataError as error:
        return str(error)


def _example(line: str, where: str, folder: Path, needs_answer: bool) -> Example:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON ({error}); expected one object a line") from error
    entry = Entry(fields, where)
    if unknown := [name for name in fields if name not in FIELDS]:
        raise DataError(f"{where} has the unknown field {unknown[0]}; expected {', '.join(FIELDS)}")
    texts = {name: entry.text(name) for name in (("question", "answer") if needs_answer else ("question",))}
    for name, text in texts.items():
        if not text.strip():
            raise DataError(f"{where}: {name} is empty; expected a text")
        if text != text.encode("utf-8", "replace").decode("utf-8"):
            raise DataError(f"{where}: {name} has a half of a surrogate pair; expected Unicode text")
    # Tokenizers expect composed characters; that of a question composes them itself.
    answer = normalize("NFC", texts.get("answer", "").strip())
    kind = entry.text("kind") if "kind" in entry else ""
    return Example(where, _moment(entry, folder), texts["question"], answer, kind)


def _moment(entry: Entry, folder: Path) -> Moment:
    time_s, since_s, until_s = (_seconds(entry, name) for name in ("time", "since", "until"))
    if since_s is not None and until_s is not None and since_s > until_s:
        raise DataError(f"{entry.where}: since is {since_s:g}, later than until, {until_s:g}; expected since <= until")
    moment = Moment(_source(entry, folder), WHOLE_VIDEO if time_s is None else time_s, since_s, until_s)
    for name, value in (("since", since_s), ("until", until_s)):
        if value is not None and value > moment.time_s:
            raise DataError(f"{entry.where}: {name} is {value:g}, after the question at {moment.time_s:g} s")
    return moment


def _seconds(entry: Entry, name: str) -> float | None:
    if name not in entry:
        return None
    value = entry.number(name)
    if not (math.isfinite(value) and value >= 0):
        raise DataError(f"{entry.where}: {name} is {value:g}; expected seconds since the first frame, 0 or more")
    return value


def _source(entry: Entry, folder: Path) -> str:
    name = entry.text("video")
    path = folder / Path(name).expanduser()
    try:
        if path.exists():
            return str(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{entry.where}: video {name!r} cannot be opened: {error}") from error
    if re.fullmatch(r"demo(:\d{1,9})?", name):
        return name
    raise DataError(f"{entry.where}: there is no video {path}; expected a path relative to the folder of the file")


def moments(examples: Iterable[Example]) -> Iterator[tuple[str, list[Moment]]]:
    """The different moments of each recording, by the time of the question."""
    by_source: dict[str, set[Moment]] = {}
    for example in examples:
        by_source.setdefault(example.moment.source, set()).add(example.moment)
    for source, own in by_source.items():
        yield source, sorted(own, key=lambda moment: (moment.time_s, moment.since_s or 0.0, moment.until_s or 0.0))
