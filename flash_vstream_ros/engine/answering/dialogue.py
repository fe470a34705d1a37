"""The way out: questions wait in a bounded queue and are answered one at a time, one token or portion a step."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.model_kind import ModelKind

from .request_queue import Answer, ErrorCode, Evidence, Question, Request, RequestQueue
from .uncached_reader import StartedAnswer, UncachedReader


@dataclass
class _Active:
    """The question being answered, on its own view of the memory."""

    request: Request
    reading: StartedAnswer
    draft: Answer
    pieces: list[str]
    log_probabilities: list[float] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def answer(self, code: ErrorCode = ErrorCode.NONE, message: str = "", evidence: int = 0) -> Answer:
        """The reply as it stands: whole at the end of the text, cut short under any other `code`."""
        said = self.log_probabilities
        return replace(
            self.draft,
            error_code=code,
            error_msg=message,
            text="".join(self.pieces).rstrip(),
            token_probability=math.exp(sum(said) / len(said)) if said else 0.0,
            evidence=_strongest(self.reading, evidence) if said else (),
        )


def _strongest(reading: StartedAnswer, count: int) -> tuple[Evidence, ...]:
    pairs = zip(reading.shown.entries, reading.answering.attention, strict=False)
    ranked = sorted(pairs, key=lambda pair: -pair[1])
    return tuple(Evidence(entry, share) for entry, share in ranked[:count])


class Dialogue:
    """Turns requests into answers. Owned by the engine's worker.

    `max_new_tokens` and `evidence` may change between two steps; the former holds from the next question on.
    """

    def __init__(
        self,
        reader: UncachedReader,
        kind: ModelKind,
        memory: Memory,
        log: ThrottledLog,
        line: RequestQueue,
        finish: Callable[[Request, Answer], None],
        *,
        max_new_tokens: int,
        evidence: int,
    ) -> None:
        self._reader = reader
        self._kind = kind
        self._memory = memory
        self._log = log
        self._line = line
        self._finish = finish
        self.max_new_tokens = max_new_tokens
        self.evidence = evidence
        self._active: _Active | None = None

    @property
    def busy(self) -> bool:
        """Whether an answer is being made."""
        return self._active is not None

    def began_within(self, seconds: float) -> bool:
        """Whether an answer is being made, and has been for less than so long."""
        return self._active is not None and time.monotonic() - self._active.begun < seconds

    def step(self) -> bool:
        """Begin the next question, read a portion of its prompt or say one more token. False: nothing to answer."""
        for leaving in self._line.leave():
            self._begin(leaving)
        if self._active is not None:
            self._guard(self._active.request, self._go_on)
        elif (request := self._line.next()) is not None:
            self._guard(request, lambda: self._begin(request))
        else:
            return False
        return True

    def close(self, message: str) -> None:
        """Cancel the question being answered."""
        if self._active is not None:
            self._end(ErrorCode.CANCELLED, message)

    def forget(self, scope: Scope) -> None:
        """Cut short an answer that is made from anything `scope` holds, and take back what it would show."""
        active = self._active
        if active is None or not scope.select(active.reading.shown.entries):
            return
        self._let_go()
        message = "what the answer was made from was forgotten meanwhile; ask again"
        self._finish(active.request, Answer(ErrorCode.CANCELLED, message, newest_ns=active.request.newest_ns))

    def _guard(self, request: Request, work: Callable[[], None]) -> None:
        """Whatever goes wrong while answering ends that answer, and only that."""
        try:
            work()
        except torch.OutOfMemoryError as error:
            spoke = self._active is not None and bool(self._active.log_probabilities)
            self._let_go()
            room_made = self._reader.relieve()
            if room_made and not spoke:
                self._line.rejoin(request)
                return
            self._fail(request, ErrorCode.OUT_OF_MEMORY, f"the device ran out of memory: {error}")
        except Exception as error:
            self._let_go()
            self._reader.clear()
            self._fail(request, ErrorCode.INTERNAL, f"{type(error).__name__}: {error}", traceback.format_exc())

    def _begin(self, request: Request) -> None:
        if (early := _ended_early(request)) is not None:
            self._finish(request, Answer(*early, newest_ns=request.newest_ns))
            return
        question = request.question
        reading = self._reader.read(question, question.max_new_tokens or self.max_new_tokens)
        if reading is None:
            why = self._why_empty(question)
            self._finish(request, Answer(ErrorCode.NO_FRAMES, why, newest_ns=request.newest_ns))
            return
        shown = reading.shown
        self._active = _Active(
            request,
            reading,
            Answer(
                model_kind=self._kind,
                cameras=shown.cameras,
                covered_since_ns=shown.first_ns,
                covered_until_ns=shown.last_ns,
                frame_id=max(shown.entries, key=lambda entry: entry.last_ns).frame_id,
                newest_ns=request.newest_ns,
                memory_tokens=reading.memory_tokens,
                cached_tokens=reading.cached_tokens,
                lag_slots=reading.lag_slots,
            ),
            pieces=[self._kind.label] if request.begun else [],
        )
        if not request.begun:
            self._say(self._kind.label)
        request.begun = True

    def _why_empty(self, question: Question) -> str:
        if not self._memory.entries:
            forgotten = self._memory.slots_seen > 0
            before = "all that was seen is forgotten" if forgotten else "nothing seen yet"
            return f"{before}: the memory takes in pairs of sampled frames; does a camera publish on image?"
        if self._memory.may_contain(question.scope):
            return "what was seen then is known only as part of longer spans of time; ask about a longer one"
        return "nothing in the memory matches the cameras and stamps asked for"

    def _go_on(self) -> None:
        active = self._active
        assert active is not None
        if (early := _ended_early(active.request)) is not None:
            self._end(*early)
        elif active.log_probabilities or not self._reader.read_on(active.reading.answering):
            self._say_one_token(active)

    def _say_one_token(self, active: _Active) -> None:
        try:
            token = next(active.reading.answering)
        except StopIteration:
            self._end()
            return
        if not active.log_probabilities:
            active.draft = replace(active.draft, time_to_first_token_s=active.request.age_s)
        active.log_probabilities.append(math.log(max(token.probability, 1e-30)))
        self._say(token.text)

    def _say(self, piece: str) -> None:
        assert self._active is not None
        self._active.pieces.append(piece)
        self._active.request.say(piece)

    def _end(self, code: ErrorCode = ErrorCode.NONE, message: str = "") -> None:
        assert self._active is not None
        request, answer = self._active.request, self._active.answer(code, message, self.evidence)
        self._let_go()
        self._finish(request, answer)

    def _let_go(self) -> None:
        self._active = None
        self._reader.done()

    def _fail(self, request: Request, code: ErrorCode, message: str, details: str = "") -> None:
        self._log.report(code.name, f"question failed: {message}" + (f"\n{details}" if details else ""))
        self._finish(request, Answer(code, message, newest_ns=request.newest_ns))


def _ended_early(request: Request) -> tuple[ErrorCode, str] | None:
    if request.cancelled:
        return ErrorCode.CANCELLED, "the question was cancelled"
    if request.expired:
        return ErrorCode.TIMEOUT, f"the deadline passed after {request.age_s:.1f} s"
    return None
