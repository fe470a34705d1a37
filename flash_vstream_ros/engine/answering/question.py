"""A question, its answer and the evidence: frozen values passed between threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from flash_vstream_ros.memory.scope import EVERYTHING, BadScope, Scope, check_scope
from flash_vstream_ros.memory.slot import MemoryEntry
from flash_vstream_ros.models.model_kind import ModelKind


class ErrorCode(IntEnum):
    """The constants of srv/AskScene.srv, with the same names and numbers."""

    NONE = 0
    NOT_READY = 1
    NO_FRAMES = 2
    BUSY = 3
    TIMEOUT = 4
    INVALID_REQUEST = 5
    CANCELLED = 6
    OUT_OF_MEMORY = 7
    INTERNAL = 8


@dataclass(frozen=True)
class Question:
    """A question, and the part of the memory to answer it from. Zeros select the engine's configuration.

    With `moments` above 0 it is a search for what the text describes, or for what looks like `image`. Its answer has no
    text, and at most `moments` moments as evidence. With `archived`, the archive is searched instead of the memory.
    """

    text: str
    scope: Scope = EVERYTHING
    deadline_s: float = 0.0
    max_new_tokens: int = 0
    id: str = ""  # unique among the unfinished questions, to cancel this one; "": none
    moments: int = 0
    archived: bool = False
    image: np.ndarray | None = field(default=None, compare=False)  # [height, width, 3] uint8 RGB

    @property
    def is_search(self) -> bool:
        return self.moments > 0

    @property
    def noun(self) -> str:
        """The word for it in messages."""
        return "search" if self.is_search else "question"


@dataclass(frozen=True)
class Evidence:
    """A memory entry and its share of attention, 0 to 1, as ranked by `ranked_by_attention`."""

    entry: MemoryEntry
    relevance: float


@dataclass(frozen=True)
class Answer:
    """The reply of srv/AskScene.srv or srv/Search.srv: times in seconds, stamps in nanoseconds of message time."""

    error_code: ErrorCode = ErrorCode.NONE
    error_msg: str = ""
    model_kind: ModelKind = ModelKind.NONE  # of the model that answered
    text: str = ""
    token_probability: float = 0.0
    confidence: float = 0.0  # of a complete answer
    calibrated: bool = False  # True: `confidence` was fitted on held-out data
    evidence: tuple[Evidence, ...] = ()
    cameras: tuple[str, ...] = ()  # cameras of the memory entries in the prompt
    covered_since_ns: int = 0
    covered_until_ns: int = 0
    frame_id: str = ""  # of the newest frame covered
    newest_ns: int = 0
    memory_tokens: int = 0
    cached_tokens: int = 0  # prompt tokens found in the prefix cache
    lag_slots: int = 0  # slots of the memory that are not in the prompt
    adjustments: tuple[str, ...] = ()  # how the answer was made other than from the memory, one sentence each
    time_to_first_token_s: float = 0.0
    duration_s: float = 0.0


def problem_of(question: Question, cameras: Sequence[str], max_chars: int) -> str:
    """The reason to refuse a question whatever the engine's state; "" if it is valid. `cameras` are the engine's."""
    if question.image is not None and question.text:
        return "the search has a text and an image; give one of them"
    if question.image is None and not question.text.strip():
        return f"the {question.noun} is empty"
    if len(question.text) > max_chars:
        return f"the {question.noun} has {len(question.text)} characters; question.max_chars allows {max_chars}"
    try:
        check_scope(question.scope, cameras)
    except BadScope as error:
        return str(error)
    if question.deadline_s < 0:
        return "the deadline is negative; give the time allowed, or zero for the default"
    return ""
