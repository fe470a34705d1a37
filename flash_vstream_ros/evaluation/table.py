"""The result of a run as Markdown tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from .records import Record
from .scoring import Average, MethodScore, Totals

Row = tuple[str, int | None, Mapping[str, Totals | Average]]  # name, n, and the values of each method


def tables(scores: Mapping[str, MethodScore], records: Sequence[Record], has_open_answers: bool) -> str:
    """Markdown tables: accuracy in % of each method, with the published rule; mean errors; what each method took."""
    header = ["", "n", *(column for method in scores for column in (method, f"{method}, as published"))]
    rows = [
        [name, "" if n is None else str(n), *(text for method in scores for text in _values(values[method]))]
        for name, n, values in _rows(scores)
    ]
    parts = [_markdown(header, rows), *_errors(scores), _costs(scores, records, has_open_answers)]
    return "\n\n".join(parts)


def _rows(scores: Mapping[str, MethodScore]) -> list[Row]:
    first = next(iter(scores.values()))
    rows: list[Row] = [
        (task, total.n, {method: own.tasks[task] for method, own in scores.items()})
        for task, total in first.tasks.items()
    ]
    rows += [(f"{part}, macro", None, {m: own.parts[part] for m, own in scores.items()}) for part in first.parts]
    rows.append(("micro", first.micro.n, {method: own.micro for method, own in scores.items()}))
    rows.append(("macro", None, {method: own.macro for method, own in scores.items()}))
    rows += [(name, None, {m: own.averages[name] for m, own in scores.items()}) for name in first.averages]
    return rows


def _errors(scores: Mapping[str, MethodScore]) -> list[str]:
    """The table of mean errors of the tasks whose answers are measured, if there are any."""
    first = next(iter(scores.values()))
    rows = []
    for task, total in first.tasks.items():
        errors = [own.tasks[task].mean_error for own in scores.values()]
        if any(error is not None for error in errors):
            answers = [
                str(own.tasks[task].n - own.tasks[task].unparsable - own.tasks[task].failed) for own in scores.values()
            ]
            texts = ["" if error is None else f"{error:.2f}" for error in errors]
            pairs = [text for pair in zip(texts, answers, strict=True) for text in pair]
            rows.append([task, str(total.n), *pairs])
    header = ["mean error", "n", *(column for method in scores for column in (method, f"{method}, answered"))]
    return [_markdown(header, rows)] if rows else []


def _costs(scores: Mapping[str, MethodScore], records: Sequence[Record], has_open_answers: bool) -> str:
    header = ["method", "n", "unparsable", "failed", "first token [ms], median", "visual tokens", "memory [MB]"]
    if has_open_answers:
        header.append("mean score")
    rows = []
    for method, own in scores.items():
        answers = [record for record in records if record.method == method and not record.error]
        first_ms = [1e3 * record.first_token_s for record in answers if record.first_token_s]
        row = [
            method,
            str(own.micro.n),
            str(own.micro.unparsable),
            str(own.micro.failed),
            f"{median(first_ms):.3g}" if first_ms else "",
            str(max((record.memory_tokens for record in answers), default="")),
            f"{max((record.memory_bytes for record in answers), default=0) / 1e6:.3g}",
        ]
        if has_open_answers:
            row.append("" if own.micro.score is None else f"{own.micro.score:.3f}")
        rows.append(row)
    return _markdown(header, rows)


def result(scores: Mapping[str, MethodScore], settings: Mapping[str, Any]) -> dict[str, Any]:
    """All scores and settings, for JSON."""
    return {**settings, "scores": {method: asdict(own) for method, own in scores.items()}}


def _values(value: Totals | Average) -> tuple[str, str]:
    return _percent(value.accuracy), _percent(value.as_published)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
