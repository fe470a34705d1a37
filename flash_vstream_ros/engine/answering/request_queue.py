"""Questions and answers as they travel between the threads that ask and the one that answers."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from flash_vstream_ros.memory.scope import EVERYTHING, Scope
from flash_vstream_ros.memory.slot import MemoryEntry
from flash_vstream_ros.models.model_kind import ModelKind


class ErrorCode(IntEnum):
    """The constants of srv/AskScene.srv, by the same names and numbers."""

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
    """What to answer, and from which part of the memory. Zeros leave the choice to the engine's configuration."""

    text: str
    scope: Scope = EVERYTHING
    deadline_s: float = 0.0
    max_new_tokens: int = 0
    id: str = ""  # unique among the questions under way; "": cannot be cancelled by itself


@dataclass(frozen=True)
class Evidence:
    """A memory entry with the share of the answer's attention that it got, 0 to 1."""

    entry: MemoryEntry
    relevance: float


@dataclass(frozen=True)
class Answer:
    """The reply of srv/AskScene.srv: times in seconds, stamps in nanoseconds of message time."""

    error_code: ErrorCode = ErrorCode.NONE
    error_msg: str = ""
    model_kind: ModelKind = ModelKind.NONE  # of the model that answered
    text: str = ""
    token_probability: float = 0.0
    evidence: tuple[Evidence, ...] = ()
    cameras: tuple[str, ...] = ()  # that the memory read has anything of
    covered_since_ns: int = 0
    covered_until_ns: int = 0
    frame_id: str = ""  # of the newest frame covered
    newest_ns: int = 0
    memory_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, read before the question came
    lag_slots: int = 0  # that the memory took in and the answer does not know of
    time_to_first_token_s: float = 0.0
    duration_s: float = 0.0


class Request:
    """One question under way. The asker iterates its pieces of text and reads `answer`; the worker fills it."""

    def __init__(self, question: Question, deadline_s: float, newest_ns: int = 0) -> None:
        self.question = question
        self.newest_ns = newest_ns
        self.begun = False  # by the worker
        self._received = time.monotonic()
        self._deadline = self._received + deadline_s
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._done = threading.Event()
        self._answer: Answer | None = None

    def __iter__(self) -> Iterator[str]:
        """The answer's text, piece by piece as it is made; ends with the answer. For one reader."""
        while (piece := self._pieces.get()) is not None:
            yield piece

    def answer(self, timeout_s: float | None = None) -> Answer:
        """Wait for the answer. Raises TimeoutError after `timeout_s` seconds."""
        if not self._done.wait(timeout_s) or self._answer is None:
            raise TimeoutError(f"no answer within {timeout_s} s")
        return self._answer

    def cancel(self) -> None:
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    @property
    def expired(self) -> bool:
        return time.monotonic() > self._deadline

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._received

    def say(self, piece: str) -> None:
        if piece:
            self._pieces.put(piece)

    def finish(self, answer: Answer) -> None:
        self._answer = answer
        self._done.set()
        self._pieces.put(None)


class RequestQueue:
    """Tickets in order of arrival, at most `longest` of them, which may change. Thread safe."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self._lock = threading.Lock()
        self._tickets: deque[Request] = deque()

    def __len__(self) -> int:
        with self._lock:
            return len(self._tickets)

    def join(self, request: Request) -> bool:
        """False when the line is full."""
        with self._lock:
            if len(self._tickets) >= self.longest:
                return False
            self._tickets.append(request)
            return True

    def rejoin(self, request: Request) -> None:
        """Put one back that was next."""
        with self._lock:
            self._tickets.appendleft(request)

    def next(self) -> Request | None:
        with self._lock:
            return self._tickets.popleft() if self._tickets else None

    def leave(self) -> list[Request]:
        """Take out the requests that were cancelled or whose deadline passed while they waited."""
        with self._lock:
            leaving = [request for request in self._tickets if request.cancelled or request.expired]
            for request in leaving:
                self._tickets.remove(request)
            return leaving
