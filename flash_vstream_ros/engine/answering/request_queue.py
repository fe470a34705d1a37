"""Bounded queue of requests; it tracks every request until it is finished."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, replace

from flash_vstream_ros.engine.durations import Durations

from .question import Answer, ErrorCode
from .request import Request


@dataclass(frozen=True)
class RequestCounts:
    """Counts of requests by outcome. Durations in seconds as (median, 95th percentile)."""

    answered: int = 0
    cached: int = 0  # of those answered
    failed: int = 0
    waiting: int = 0
    answer_s: tuple[float, float] = (0.0, 0.0)
    first_token_s: tuple[float, float] = (0.0, 0.0)


class RequestQueue:
    """Questions in order of arrival, then searches; at most `capacity` wait. `capacity` may change. Thread safe."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        self._waiting: deque[Request] = deque()
        self._unfinished: set[Request] = set()  # waiting, or being answered
        self._answered = 0
        self._cached = 0
        self._failed = 0
        self._answer_s = Durations()
        self._first_token_s = Durations()

    def push(self, request: Request) -> Answer | None:
        """Append a request. Returns a refusal if the queue is full or the question's id is in use, else None."""
        question_id = request.question.id
        with self._lock:
            if question_id and any(other.question.id == question_id for other in self._unfinished):
                return Answer(
                    ErrorCode.INVALID_REQUEST, f"question_id {question_id!r} is in use by a question under way"
                )
            if len(self._waiting) >= self.capacity:
                return Answer(ErrorCode.BUSY, f"{self.capacity} questions are waiting; ask again later")
            self._waiting.append(request)
            self._unfinished.add(request)
            return None

    def push_front(self, request: Request) -> None:
        """Put a request that was popped back to the front of the queue."""
        with self._lock:
            if request in self._unfinished:
                self._waiting.appendleft(request)

    def pop(self, asked_before: float = math.inf) -> Request | None:
        """Take out the oldest question, or the oldest search if no question waits; None if the queue is empty.

        Requests of `asked_before` and later, on the monotonic clock, stay in the queue.
        """
        with self._lock:
            due = [request for request in self._waiting if request.asked_at < asked_before]
            request = next((request for request in due if not request.question.is_search), None)
            request = request or next(iter(due), None)
            if request is not None:
                self._waiting.remove(request)
            return request

    def has_question(self, asked_before: float = math.inf) -> bool:
        """Returns True if a question that was `asked_before` waits, not only searches."""
        with self._lock:
            return any(not request.question.is_search for request in self._waiting if request.asked_at < asked_before)

    def pop_ended(self) -> list[Request]:
        """Take out the requests that were cancelled or whose deadline passed."""
        with self._lock:
            ended = [request for request in self._waiting if request.cancelled or request.expired]
            for request in ended:
                self._waiting.remove(request)
            return ended

    def finish(self, request: Request, answer: Answer) -> None:
        """Count an answer and deliver it. Later answers to the same request are ignored."""
        answer = replace(answer, duration_s=request.age_s)
        is_answered = answer.error_code is ErrorCode.NONE
        with self._lock:
            if request.is_finished:
                return
            self._unfinished.discard(request)
            self._answered += is_answered
            self._cached += is_answered and answer.cached_tokens > 0
            self._failed += not is_answered
            if is_answered and not request.question.is_search:
                self._answer_s.add(answer.duration_s)
                self._first_token_s.add(answer.time_to_first_token_s or answer.duration_s)
            request.finish(answer)

    def finish_all(self, answer: Answer) -> None:
        """Finish every unfinished request with the same answer."""
        with self._lock:
            self._waiting.clear()
            unfinished = list(self._unfinished)
        for request in unfinished:
            self.finish(request, replace(answer, newest_ns=request.newest_ns))

    def cancel(self, question_id: str) -> bool:
        """Cancel the unfinished request with this question id. Returns False if there is none."""
        with self._lock:
            chosen = [request for request in self._unfinished if request.question.id == question_id]
        for request in chosen:
            request.cancel()
        return bool(chosen)

    def cancel_all(self) -> int:
        """Cancel every unfinished request. Returns how many."""
        with self._lock:
            unfinished = list(self._unfinished)
        for request in unfinished:
            request.cancel()
        return len(unfinished)

    @property
    def idle(self) -> bool:
        """Returns True if no request waits or is being answered."""
        with self._lock:
            return not self._unfinished

    def counts(self) -> RequestCounts:
        with self._lock:
            return RequestCounts(
                answered=self._answered,
                cached=self._cached,
                failed=self._failed,
                waiting=len(self._waiting),
                answer_s=self._answer_s.p50_p95(),
                first_token_s=self._first_token_s.p50_p95(),
            )
