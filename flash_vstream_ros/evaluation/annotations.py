"""Reads annotation files and finds videos. Errors name the file, the entry and the field."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .item import DataError

ALL_TASKS = "all"  # key of the number of all questions, where those of each task are not published
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")
_LETTERED = re.compile(r"\s*\(?(?P<letter>[A-Za-z])[.):]\s*(?P<text>.*\S)\s*", re.DOTALL)  # "A. text", "(a) text"
_NAMES = {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}


class Entry:
    """One JSON object of an annotation file. Its methods check the type of a field, and raise DataError."""

    def __init__(self, fields: Any, where: str) -> None:
        if not isinstance(fields, dict):
            raise DataError(f"{where} is no JSON object")
        self._fields: dict[str, Any] = fields
        self.where = where

    def text(self, name: str) -> str:
        value: str = self._typed(name, str)
        return value

    def number(self, name: str) -> float:
        return float(self._typed(name, float))

    def numbers(self, name: str) -> tuple[float, ...]:
        values = self._typed(name, list)
        if not values or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            raise DataError(f"{self.where}: {name} is not a list of numbers")
        return tuple(map(float, values))

    def entry(self, name: str) -> Entry:
        return Entry(self._typed(name, dict), f"{self.where}, {name}")

    def whole(self, name: str) -> int:
        value: int = self._typed(name, int)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._typed(name, list)
        if not values or not all(isinstance(value, str) for value in values):
            raise DataError(f"{self.where}: {name} is not a list of texts")
        return tuple(values)

    def entries(self, name: str) -> list[Entry]:
        return [Entry(value, f"{self.where}, {name} {index}") for index, value in enumerate(self._typed(name, list))]

    def label(self, name: str) -> str:
        """A text or a number, as text."""
        value = self._fields.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise DataError(f"{self.where} has no text or number {name}; it has {self._known}")
        return str(value)

    def time_s(self, name: str) -> float:
        """A time such as 00:01:30 [s]. As in the official readers, "00:90" is 90 s too."""
        words = self.text(name).strip().split(":")
        try:
            return float(sum(int(word) * 60**power for power, word in enumerate(reversed(words))))
        except ValueError:
            raise DataError(f"{self.where}: {name} is {self.text(name)!r}, no HH:MM:SS") from None

    def first_of(self, names: Sequence[str]) -> str:
        """The first of the names that the entry has."""
        for name in names:
            if name in self._fields:
                return name
        raise DataError(f"{self.where} has none of the fields {', '.join(names)}; it has {self._known}")

    def lettered_texts(self, name: str) -> tuple[str, ...]:
        """Texts without their letters A, B, ..., from a list, or from an object whose keys are these letters."""
        if not isinstance(self._fields.get(name), dict):
            texts = self.texts(name)
            found = [_LETTERED.fullmatch(text) for text in texts]
            letters = "".join(match["letter"].upper() for match in found if match)
            is_lettered = len(letters) == len(texts) and string.ascii_uppercase.startswith(letters)
            return tuple(match["text"] for match in found if match) if is_lettered else texts
        by_letter = self.entry(name)
        letters = "".join(sorted(by_letter._fields))
        if not letters or letters != string.ascii_uppercase[: len(by_letter._fields)]:
            raise DataError(f"{self.where}: the keys of {name} are {by_letter._known} instead of A, B, ...")
        return tuple(by_letter.text(letter) for letter in letters)

    def whole_or_text(self, name: str) -> int | str:
        """A whole number or a text, whichever it is."""
        return self._fields[name] if isinstance(self._fields.get(name), str) else self.whole(name)

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    @property
    def _known(self) -> str:
        return ", ".join(self._fields) or "no fields"

    def _typed(self, name: str, kind: type) -> Any:
        value = self._fields.get(name)
        accepted = (int, float) if kind is float else kind
        if isinstance(value, bool) or not isinstance(value, accepted):
            raise DataError(f"{self.where} has no {name} that is {_NAMES[kind]}; it has {self._known}")
        return value


def read_json(path: Path) -> Any:
    """The JSON value in a file. Raises DataError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}") from error


def read_list(path: Path) -> list[Any]:
    """The JSON list in a file. Raises DataError."""
    found = read_json(path)
    if not isinstance(found, list) or not found:
        raise DataError(f"{path} is no JSON list, or an empty one")
    return found


def read_entries(path: Path) -> list[Entry]:
    """The objects of a JSON list in a file. Raises DataError."""
    return [Entry(fields, f"{path.name}, entry {index}") for index, fields in enumerate(read_list(path))]


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines() would also split at marks within a text
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def read_lines(path: Path) -> list[Entry]:
    """The objects of a file of JSON lines. Raises DataError."""
    if not (numbered := numbered_lines(path)):
        raise DataError(f"{path} is empty")
    return [_entry_of(line, f"{path.name}, line {number}") for number, line in numbered]


def _entry_of(line: str, where: str) -> Entry:
    try:
        return Entry(json.loads(line), where)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is no JSON object: {error}") from error


def first_file(folder: Path, names: Sequence[str]) -> Path:
    """The first of the files that exists in `folder`. Raises DataError."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has none of the annotation files {', '.join(names)}")


def find_video(folders: Sequence[Path], names: Sequence[str]) -> Path:
    """The first video or folder of frames with one of these names; the first candidate if there is none."""
    candidates = [folder / name for folder in folders for name in names]
    for candidate in candidates:
        if candidate.exists():
            return candidate
        for suffix in VIDEO_SUFFIXES:
            file = candidate.parent / f"{candidate.name}{suffix}"
            if file.is_file():
                return file
    return candidates[0]


def check_counts(found: Mapping[str, int], published: Mapping[str, int], folder: Path) -> None:
    """Raise DataError if the number of questions of a task, or of all, is not the published one."""
    if set(published) == {ALL_TASKS}:
        found = {ALL_TASKS: sum(found.values())}
    wrong = [
        f"{task} {found.get(task, 0)} instead of {published.get(task, 0)}"
        for task in sorted({*found, *published})
        if found.get(task, 0) != published.get(task, 0)
    ]
    if wrong:
        raise DataError(
            f"the annotations in {folder} are not the published ones: {', '.join(wrong)} questions; "
            "--partial accepts a part of a benchmark"
        )
