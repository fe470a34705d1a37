"""Questions with their true answers, and the scoring of a model's answers."""

from __future__ import annotations

import re
from typing import NamedTuple

from .world import COLOURS, KINDS, ROOMS

CANNOT_TELL = "I cannot tell."  # answer to a question that has no answer in the world
THING_KINDS = ("where", "when", "seen")  # kinds of questions that name a thing
ROOM_KINDS = ("when_room", "count")  # kinds of questions that name a room
ORDER_KINDS = ("room_first", "room_before")  # kinds of questions whose answers are a room such as "the hallway"
FACT = re.compile(rf"\b({'|'.join(ROOMS)}|person|(?:{'|'.join(COLOURS)}) (?:{'|'.join(KINDS)}))\b")


class Names(NamedTuple):
    """Values of a wording's placeholders; "" if the wording lacks one."""

    room: str = ""
    thing: str = ""
    kind: str = ""


class Question(NamedTuple):
    """A question with its true answer."""

    kind: str  # key of WORDINGS; several forms may be of one kind, see KIND_OF
    text: str
    answer: str
    age_s: float | None  # age of the oldest evidence needed [s]; None: no evidence is needed
    held_out: bool  # the evidence is of a HELD_OUT combination
    minutes: float | None = None  # true answer of a "when" question [min]; None: never, or another question
    form: str = ""  # key of WORDINGS; "": the question has no other wording
    names: Names = Names()

    @property
    def thing(self) -> str:
        """The thing that the question is about, if it was seen; "" for other questions."""
        return self.names.thing if self.kind in THING_KINDS and self.age_s is not None else ""

    @property
    def room(self) -> str:
        """The room whose visits the question is about, if there were any; "" for other questions."""
        return self.names.room if self.kind in ROOM_KINDS and self.age_s is not None else ""

    @property
    def room_by_order(self) -> str:
        """The room that answers a question about the order of visits; "" for other questions."""
        return self.answer.removeprefix("the ") if self.kind in ORDER_KINDS else ""


def facts(text: str) -> frozenset[str]:
    """Rooms, things ("red ball") and "person" named in a text."""
    return frozenset(FACT.findall(" ".join(text.lower().split())))


def precision_recall(text: str, truth_text: str) -> tuple[float, float]:
    """Precision and recall of the facts in `text`; 1 for a division by zero."""
    named, true = facts(text), facts(truth_text)
    both = len(named & true)
    return both / len(named) if named else 1.0, both / len(true) if true else 1.0


def right(question: Question, answer: str) -> bool:
    """Returns True if `answer` is right. Times may be off by a quarter, or by a minute."""
    if question.kind in ("scene", "describe"):
        nothing = not facts(question.answer) - set(ROOMS)
        return facts(answer) == facts(question.answer) and ("nothing" in answer.lower()) == nothing
    if question.kind == "patrol":
        return min(precision_recall(answer, question.answer)) >= 0.9
    if question.minutes is not None:
        minutes = _minutes(answer)
        return minutes is not None and abs(minutes - question.minutes) <= max(1.0, 0.25 * question.minutes)
    return _plain(answer) == _plain(question.answer)


def _minutes(answer: str) -> float | None:
    """Minutes in "7 minutes ago" or "just now"; None if no time is named."""
    number = re.search(r"(\d+) minute", answer.lower())
    if number:
        return float(number[1])
    return 0.0 if "just now" in answer.lower() else None


def _plain(answer: str) -> list[str]:
    return [word for word in re.findall(r"[a-z0-9]+", answer.lower()) if word not in ("a", "an", "the", "in")]
