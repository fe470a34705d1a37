"""A question with its true answer, and which other answers are right."""

from __future__ import annotations

import re
from typing import NamedTuple

from .world import COLOURS, KINDS, ROOMS

FACT = re.compile(rf"\b({'|'.join(ROOMS)}|person|(?:{'|'.join(COLOURS)}) (?:{'|'.join(KINDS)}))\b")


class Question(NamedTuple):
    kind: str  # as in WORDINGS, "where" and the like for all that ask where
    text: str
    answer: str
    age_s: float | None  # since the oldest evidence that is needed was in view; None: there is none to look back at
    held_out: bool  # that evidence is of a thing in a HELD_OUT combination
    minutes: float | None = None  # since what a "when" asks about; None: never, or no such question


def facts(text: str) -> frozenset[str]:
    """The rooms, the things ("red ball") and "person" that a text names."""
    return frozenset(FACT.findall(" ".join(text.lower().split())))


def precision_recall(text: str, truth_text: str) -> tuple[float, float]:
    """Which share of the facts named is true, and which share of the true ones is named; 1 of none."""
    said, true = facts(text), facts(truth_text)
    both = len(said & true)
    return both / len(said) if said else 1.0, both / len(true) if true else 1.0


def right(question: Question, answer: str) -> bool:
    if question.kind in ("scene", "describe"):
        nothing = not facts(question.answer) - set(ROOMS)
        return facts(answer) == facts(question.answer) and ("nothing" in answer.lower()) == nothing
    if question.kind == "patrol":
        return min(precision_recall(answer, question.answer)) >= 0.9
    if question.minutes is not None:
        said = _minutes(answer)
        return said is not None and abs(said - question.minutes) <= max(1.0, 0.25 * question.minutes)
    return _plain(answer) == _plain(question.answer)


def _minutes(answer: str) -> float | None:
    """Of "7 minutes ago" or "just now"; None: it names no time."""
    number = re.search(r"(\d+) minute", answer.lower())
    if number:
        return float(number[1])
    return 0.0 if "just now" in answer.lower() else None


def _plain(answer: str) -> list[str]:
    return [word for word in re.findall(r"[a-z0-9]+", answer.lower()) if word not in ("a", "an", "the", "in")]
