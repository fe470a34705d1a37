"""Scores records: per task, micro and macro. Failed questions and unclear responses count as wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from .benchmarks import Benchmark
from .item import AnswerKind, Item
from .parsing import contains_words, exact_match, parsed, token_f1
from .records import Record


@dataclass(frozen=True)
class Verdict:
    """A judge's verdict on an open answer; `is_right` is None if it could not be parsed."""

    is_right: bool | None
    score: float = 0.0  # 0 to 5


@dataclass(frozen=True)
class Grade:
    """The score of one record."""

    is_right: bool
    is_unparsable: bool = False
    is_failed: bool = False
    score: float | None = None  # of an open answer: token-F1, or the judge's score
    published: float | None = None  # by the official scorer; None: left out
    is_measured: bool = False  # the answer has an error instead of being right or wrong
    error: float | None = None  # of a measured answer [min or m]; None: there is no answer


@dataclass(frozen=True)
class Totals:
    """Sums over some questions. Accuracies are from 0 to 1; None where there is nothing to divide by.

    Measured answers count in `mean_error` only.
    """

    n: int
    right: int
    unparsable: int
    failed: int
    accuracy: float | None
    as_published: float | None
    score: float | None
    mean_error: float | None = None  # [min or m]


@dataclass(frozen=True)
class Average:
    """An average accuracy, and the same by the official scorer."""

    accuracy: float | None
    as_published: float | None


@dataclass(frozen=True)
class MethodScore:
    """The scores of one method. Macro averages are over tasks; `averages` are those that papers quote."""

    tasks: Mapping[str, Totals]
    micro: Totals
    macro: Average
    parts: Mapping[str, Average]  # macro average of the tasks of each part
    averages: Mapping[str, Average]


def grade(benchmark: Benchmark, item: Item, record: Record | None, verdict: Verdict | None = None) -> Grade:
    """Grade a record; without one, the question failed."""
    if record is None or record.error:
        empty = Record("", item.id)
        rule = benchmark.published_rule
        published = rule(item, empty) if rule and not item.kind.is_measured else None
        return Grade(False, is_failed=True, published=published, is_measured=item.kind.is_measured)
    if item.kind.is_measured:
        return _measured_grade(item, record)
    if item.kind is AnswerKind.OPEN:
        return _open_grade(item, record, verdict)
    published = benchmark.published_rule(item, record) if benchmark.published_rule else None
    if item.polls is not None:
        on_time = item.polls.is_punctual(record.asked_s)
        return Grade(on_time and contains_words(record.response, item.answer), published=published)
    answer = parsed(item, record.response)
    return Grade(answer == item.answer, is_unparsable=answer is None, published=published)


def _measured_grade(item: Item, record: Record) -> Grade:
    """The distance between two positions [m] or times [min]."""
    answer = parsed(item, record.response)
    if answer is None:
        return Grade(False, is_unparsable=True, is_measured=True)
    return Grade(False, is_measured=True, error=math.dist(_vector(answer), _vector(item.answer)))


def _vector(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _open_grade(item: Item, record: Record, verdict: Verdict | None) -> Grade:
    if not record.response.strip():
        return Grade(False, is_unparsable=True, published=None if verdict is None else 0.0)
    if verdict is None:
        is_right = exact_match(record.response, item.answer)
        return Grade(is_right, score=token_f1(record.response, item.answer))
    if verdict.is_right is None:
        return Grade(False, is_unparsable=True)
    return Grade(verdict.is_right, score=verdict.score, published=float(verdict.is_right))


def score(benchmark: Benchmark, items: Sequence[Item], grades: Sequence[Grade]) -> MethodScore:
    """Sum the grades of all items, which are in the same order."""
    by_task: dict[str, list[Grade]] = {}
    part_of: dict[str, str] = {}
    for item, own_grade in zip(items, grades, strict=True):
        by_task.setdefault(item.task, []).append(own_grade)
        part_of[item.task] = item.part
    tasks = {task: totals(own) for task, own in by_task.items()}
    parts = {
        part: _mean(tasks[task] for task in tasks if part_of[task] == part)
        for part in dict.fromkeys(part_of.values())
        if part
    }
    averages = {name: _mean_of_parts(parts, own) for name, own in (benchmark.averages or {}).items()}
    return MethodScore(tasks, totals(grades), _mean(tasks.values()), parts, averages)


def totals(grades: Sequence[Grade]) -> Totals:
    """Sums over grades."""
    published = [one.published for one in grades if one.published is not None]
    scores = [one.score for one in grades if one.score is not None]
    errors = [one.error for one in grades if one.error is not None]
    right, judged = sum(one.is_right for one in grades), sum(not one.is_measured for one in grades)
    return Totals(
        n=len(grades),
        right=right,
        unparsable=sum(one.is_unparsable for one in grades),
        failed=sum(one.is_failed for one in grades),
        accuracy=right / judged if judged else None,
        as_published=fmean(published) if published else None,
        score=fmean(scores) if scores else None,
        mean_error=fmean(errors) if errors else None,
    )


def _mean(parts: Iterable[Totals | Average]) -> Average:
    known = list(parts)
    return Average(_average([one.accuracy for one in known]), _average([one.as_published for one in known]))


def _mean_of_parts(parts: Mapping[str, Average], names: Sequence[str]) -> Average:
    """The mean of some parts; None if one of them is missing."""
    if any(name not in parts for name in names):
        return Average(None, None)
    return _mean(parts[name] for name in names)


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
