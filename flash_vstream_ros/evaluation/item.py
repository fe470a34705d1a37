"""One question of a benchmark, whatever the benchmark's own format."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

PUNCTUAL_S = 2.0  # largest deviation of a proactive answer from the right time


class DataError(ValueError):
    """Annotations or videos that cannot be used; the message names the file and the field."""


class AnswerKind(Enum):
    """What an answer must be, which determines how it is parsed."""

    CHOICE = "choice"  # the letter of an option
    YES_NO = "yes_no"
    COUNT = "count"  # a whole number
    OPEN = "open"  # free text
    PROACTIVE = "proactive"  # free text, at the right time
    MINUTES = "minutes"  # a number of minutes, scored by its error
    POSITION = "position"  # coordinates [m], scored by their distance; not a text of the model

    @property
    def is_measured(self) -> bool:
        """Whether answers have an error instead of being right or wrong."""
        return self in (AnswerKind.MINUTES, AnswerKind.POSITION)


@dataclass(frozen=True)
class Polls:
    """Times at which a model is asked whether it is the right time to answer [s]; "yes" ends them."""

    times: tuple[float, ...]
    prompt: str
    due_s: float  # the right time

    def is_punctual(self, asked_s: float) -> bool:
        """Whether an answer at this time is near enough to the right one, as the official scorer has it."""
        return abs(asked_s - self.due_s) <= PUNCTUAL_S


@dataclass(frozen=True)
class Item:
    """A question with its video, its time and its true answer."""

    id: str  # unique within the benchmark
    video: Path  # a video file or a folder of frames
    time_s: float  # only frames up to this time are used; inf: the whole video
    prompt: str  # what the model is asked, with the options
    # CHOICE: a letter; YES_NO: "yes" or "no"; COUNT: digits; MINUTES: a number; POSITION: "x, y, z"; else a text
    answer: str
    kind: AnswerKind
    task: str
    part: str = ""  # group of tasks that is averaged by itself
    question: str = ""  # the question alone, for a judge
    options: tuple[str, ...] = field(default=())  # without letters
    polls: Polls | None = None  # of PROACTIVE
    start_s: float = 0.0  # only frames from this time on are used

    @property
    def ask_times(self) -> tuple[float, ...]:
        """Times at which the model is asked [s]."""
        return self.polls.times if self.polls else (self.time_s,)


WHOLE_VIDEO = math.inf
