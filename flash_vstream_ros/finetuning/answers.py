"""Answers to held-out questions before and after a fine-tuning, kept as JSON lines, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from flash_vstream_ros.evaluation.parsing import exact_match, token_f1
from flash_vstream_ros.evaluation.records import Record, answered, append_record, read_records
from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.qwen2_vl import Qwen2VL

from .examples import Example
from .memories import MemoryFolder

BEFORE, AFTER = "before", "after"
ALL_KINDS = "all"


def unanswered(path: Path, when: str, examples: Sequence[Example]) -> list[Example]:
    """The examples without a recorded answer. Raises DataError."""
    done = answered(read_records(path).values())
    return [example for example in examples if (when, example.id) not in done]


def answer(
    model: Qwen2VL,
    memories: MemoryFolder,
    examples: Sequence[Example],
    max_new_tokens: int,
    path: Path,
    when: str,
    on_answer: Callable[[], None],
) -> None:
    """Append the greedy answers of `model` to the records at `path`."""
    for example in examples:
        try:
            tokens = [*model.answer(memories.read(example.moment), example.question, max_new_tokens)]
            record = Record(when, example.id, "".join(token.text for token in tokens).strip())
        except ModelError as error:
            record = Record(when, example.id, error=str(error))
        append_record(path, record)
        on_answer()


def with_responses(path: Path, when: str, examples: Sequence[Example]) -> list[Example]:
    """The examples with the recorded answers as the true ones, without those that have none. Raises DataError."""
    records = read_records(path)
    found = [(example, records.get((when, example.id))) for example in examples]
    return [replace(example, answer=record.response) for example, record in found if record and record.response]


def scores(path: Path, when: str, examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """By kind of question, and of all: number, share of exact matches, and mean token-F1. Raises DataError.

    A question without an answer counts as wrong.
    """
    records = read_records(path)
    return {kind: _score(own, records, when) for kind, own in _by_kind(examples)}


def responses(path: Path, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Each question with its answers before and after."""
    records = read_records(path)
    return [
        {
            "where": example.where,
            "kind": example.kind,
            "question": example.question,
            "answer": example.answer,
            **{when: records[when, example.id].response for when in (BEFORE, AFTER) if (when, example.id) in records},
        }
        for example in examples
    ]


def _by_kind(examples: Sequence[Example]) -> Iterator[tuple[str, list[Example]]]:
    if examples:
        yield ALL_KINDS, list(examples)
    kinds = {example.kind for example in examples} - {""}
    for kind in sorted(kinds):
        yield kind, [example for example in examples if example.kind == kind]


def _score(examples: Sequence[Example], records: Mapping[tuple[str, str], Record], when: str) -> dict[str, float]:
    texts = [records[when, example.id].response if (when, example.id) in records else "" for example in examples]
    pairs = [(text, example.answer) for text, example in zip(texts, examples, strict=True)]
    return {
        "n": len(pairs),
        "exact": fmean(exact_match(*pair) for pair in pairs),
        "f1": fmean(token_f1(*pair) for pair in pairs),
    }
