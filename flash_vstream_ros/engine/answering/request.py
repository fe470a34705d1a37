"""A question on its way to an answer, shared by the thread that asks and the worker that answers."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from .question import Answer, Evidence, Question


class KeyFrameProgress(NamedTuple):
    """Progress of the key frames that are encoded for an answer."""

    done: int
    total: int


class PrefillProgress(NamedTuple):
    """Progress of the prefill of an answer's prompt [tokens]; `total` is what the prefix cache does not hold."""

    done: int
    total: int


class FoundEvidence(NamedTuple):
    """The memory entries with the most attention, as they are known before the first token of the answer."""

    evidence: tuple[Evidence, ...]


Piece = str | KeyFrameProgress | PrefillProgress | FoundEvidence


class Request:
    """A question and, once it is complete, its answer. Thread safe.

    The thread that asks iterates over `pieces` and waits for `answer`; the worker supplies both.
    """

    def __init__(self, question: Question, deadline_s: float, newest_ns: int = 0) -> None:
        self.question = question
        self.newest_ns = newest_ns  # stamp of the newest frame when the question was asked; 0: no frame yet
        self.started = False  # set by the worker
        self.asked_at = time.monotonic()
        self._deadline = self.asked_at + deadline_s
        self._pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._done = threading.Event()
        self._answer: Answer | None = None

    def __iter__(self) -> Iterator[str]:
        """Yield the answer's text piece by piece as it is generated. For one reader."""
        return (piece for piece in self.pieces() if isinstance(piece, str))

    def pieces(self) -> Iterator[Piece]:
        """Yield the answer's text, and before it the progress of its preparation and its evidence. For one reader."""
        while (piece := self._pieces.get()) is not None:
            yield piece

    def answer(self, timeout_s: float | None = None) -> Answer:
        """Wait for the answer. Raises TimeoutError after `timeout_s` seconds."""
        if not self._done.wait(timeout_s) or self._answer is None:
            raise TimeoutError(f"no answer within {timeout_s} s")
        return self._answer

    def cancel(self) -> None:
        """Ask the worker to end the answer."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    @property
    def expired(self) -> bool:
        return time.monotonic() > self._deadline

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.asked_at

    def stream(self, piece: str) -> None:
        """Pass a piece of text to the thread that asks."""
        if piece:
            self._pieces.put(piece)

    def report_key_frames(self, done: int, total: int) -> None:
        """Tell the asker how many of the answer's key frames are encoded."""
        self._pieces.put(KeyFrameProgress(done, total))

    def report_prefill(self, done: int, total: int) -> None:
        """Tell the asker how many tokens of the prompt are prefilled."""
        self._pieces.put(PrefillProgress(done, total))

    def report_evidence(self, evidence: tuple[Evidence, ...]) -> None:
        """Tell the asker which entries of the memory the answer is based on."""
        self._pieces.put(FoundEvidence(evidence))

    @property
    def is_finished(self) -> bool:
        return self._done.is_set()

    def finish(self, answer: Answer) -> None:
        """Deliver the answer. RequestQueue.finish calls this once."""
        self._answer = answer
        self._done.set()
        self._pieces.put(None)
