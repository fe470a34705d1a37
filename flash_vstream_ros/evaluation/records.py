"""Records of answers as JSON lines. Several processes may append to one file; a line cut off by a crash is dropped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from .item import DataError

END = -1.0  # `asked_s` of a question about a whole video, since JSON has no infinity


@dataclass(frozen=True)
class Record:
    """The answer of one method to one item. Times in seconds."""

    method: str
    id: str  # of the item
    response: str = ""
    error: str = ""  # why there is no response; "": there is one
    asked_s: float = 0.0  # time of the question, or of the last poll; END: a whole video
    frames: int = 0  # sampled frames up to the question
    memory_tokens: int = 0  # visual tokens in the prompt
    memory_bytes: int = 0
    cached_tokens: int = 0
    first_token_s: float = 0.0  # from the question to the first token
    duration_s: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.id


def append_record(path: Path, record: Record) -> None:
    """Append a record. One write call, so that lines of several processes do not mix."""
    line = json.dumps(asdict(record), ensure_ascii=False) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode("utf-8", "replace"))
    finally:
        os.close(descriptor)


def read_records(path: Path) -> dict[tuple[str, str], Record]:
    """The newest record of each method and item. A last line without its end is removed. Raises DataError."""
    if not path.exists():
        return {}
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    lines = whole.decode("utf-8", "replace").split("\n")[:-1]
    records = [_record(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]
    return {record.key: record for record in records}


def _record(line: str, where: str) -> Record:
    try:
        return Record(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise DataError(f"{where} is no record of an answer: {error}; move the file away") from error


def answered(records: Iterable[Record]) -> set[tuple[str, str]]:
    """Keys of the records with a response; the others are asked again."""
    return {record.key for record in records if not record.error}
