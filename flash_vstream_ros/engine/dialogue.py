"""The way out: questions wait in a bounded queue and are answered one at a time, one token a step."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.memory.spans import Interval
from flash_vstream_ros.models.interface import Answering, VisionLanguageModel

from .notices import Notices
from .questions import Answer, ErrorCode, Evidence, Question, Ticket, WaitingLine
from .selection import Selection

UNTRAINED = "[untrained] "


@dataclass
class _Active:
    """The question being answered, on its own snapshot of the memory."""

    ticket: Ticket
    snapshot: MemorySnapshot
    answering: Answering
    draft: Answer
    pieces: list[str]
    log_probabilities: list[float] = field(default_factory=list)

    def answer(self, code: ErrorCode = ErrorCode.NONE, message: str = "", evidence: int = 0) -> Answer:
        """The reply as it stands: whole at the end of the text, cut short under any other `code`."""
        said = self.log_probabilities
        return replace(
            self.draft,
            error_code=code,
            error_msg=message,
            text="".join(self.pieces).rstrip(),
            confidence=math.exp(sum(said) / len(said)) if said else 0.0,
            evidence=_strongest(self.snapshot, self.answering, evidence) if said else (),
        )


def _strongest(snapshot: MemorySnapshot, answering: Answering, count: int) -> tuple[Evidence, ...]:
    ranked = sorted(zip(snapshot.entries, answering.attention, strict=False), key=lambda pair: -pair[1])
    return tuple(Evidence(entry, share) for entry, share in ranked[:count])


class Dialogue:
    """Turns tickets into answers. Owned by the engine's worker.

    `max_new_tokens` and `evidence` may change between two steps; the former holds from the next question on.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        memory: Memory,
        notices: Notices,
        line: WaitingLine,
        finish: Callable[[Ticket, Answer], None],
        *,
        max_new_tokens: int,
        evidence: int,
    ) -> None:
        self._model = model
        self._memory = memory
        self._notices = notices
        self._line = line
        self._finish = finish
        self.max_new_tokens = max_new_tokens
        self.evidence = evidence
        self._active: _Active | None = None

    def step(self) -> bool:
        """Begin the next question or say one more token. False when there is nothing to answer."""
        for leaving in self._line.leave():
            self._begin(leaving)
        if self._active is not None:
            self._guard(self._active.ticket, self._say_one_token)
        elif (ticket := self._line.next()) is not None:
            self._guard(ticket, lambda: self._begin(ticket))
        else:
            return False
        return True

    def close(self, message: str) -> None:
        """Cancel the question being answered."""
        if self._active is not None:
            self._end(ErrorCode.CANCELLED, message)

    def forget(self, selection: Selection) -> None:
        """Cut short an answer that is made from anything `selection` holds, and take back what it would show."""
        active, interval = self._active, Interval(selection.since_ns, selection.until_ns)
        if active is None or not any(
            (not selection.cameras or entry.camera in selection.cameras)
            and interval.touches(entry.first_ns, entry.last_ns)
            for entry in active.snapshot.entries
        ):
            return
        self._active = None
        message = "what the answer was made from was forgotten meanwhile; ask again"
        self._finish(active.ticket, Answer(ErrorCode.CANCELLED, message, newest_ns=active.ticket.newest_ns))

    def _guard(self, ticket: Ticket, work: Callable[[], None]) -> None:
        """Whatever goes wrong while answering ends that answer, and only that."""
        try:
            work()
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            self._fail(ticket, ErrorCode.OUT_OF_MEMORY, f"the device ran out of memory: {error}")
        except Exception as error:
            self._fail(ticket, ErrorCode.INTERNAL, f"{type(error).__name__}: {error}", traceback.format_exc())

    def _begin(self, ticket: Ticket) -> None:
        if (early := _ended_early(ticket)) is not None:
            self._finish(ticket, Answer(*early, newest_ns=ticket.newest_ns))
            return
        question = ticket.question
        snapshot = self._memory.snapshot(question.cameras, question.since_ns, question.until_ns)
        if snapshot.empty:
            why = self._why_empty(question)
            self._finish(ticket, Answer(ErrorCode.NO_FRAMES, why, newest_ns=ticket.newest_ns))
            return
        self._active = _Active(
            ticket,
            snapshot,
            self._model.answer(snapshot, question.text, question.max_new_tokens or self.max_new_tokens),
            Answer(
                cameras=snapshot.cameras,
                covered_since_ns=snapshot.first_ns,
                covered_until_ns=snapshot.last_ns,
                frame_id=max(snapshot.entries, key=lambda entry: entry.last_ns).frame_id,
                newest_ns=ticket.newest_ns,
                memory_tokens=self._model.tokens(snapshot),
            ),
            pieces=[],
        )
        if not self._model.trained:
            self._say(UNTRAINED)

    def _why_empty(self, question: Question) -> str:
        if not self._memory.entries:
            forgotten = self._memory.slots_seen > 0
            before = "all that was seen is forgotten" if forgotten else "nothing seen yet"
            return f"{before}: the memory takes in pairs of sampled frames; does a camera publish on image?"
        if self._memory.saw(question.cameras, question.since_ns, question.until_ns):
            return "what was seen then is known only as part of longer spans of time; ask about a longer one"
        return "nothing in the memory matches the cameras and stamps asked for"

    def _say_one_token(self) -> None:
        active = self._active
        assert active is not None
        if (early := _ended_early(active.ticket)) is not None:
            self._end(*early)
            return
        try:
            token = next(active.answering)
        except StopIteration:
            self._end()
            return
        if not active.log_probabilities:
            active.draft = replace(active.draft, time_to_first_token_s=active.ticket.age_s)
        active.log_probabilities.append(math.log(max(token.probability, 1e-30)))
        self._say(token.text)

    def _say(self, piece: str) -> None:
        assert self._active is not None
        self._active.pieces.append(piece)
        self._active.ticket.say(piece)

    def _end(self, code: ErrorCode = ErrorCode.NONE, message: str = "") -> None:
        active, self._active = self._active, None
        assert active is not None
        self._finish(active.ticket, active.answer(code, message, self.evidence))

    def _fail(self, ticket: Ticket, code: ErrorCode, message: str, details: str = "") -> None:
        self._active = None
        self._notices.give(code.name, f"question failed: {message}" + (f"\n{details}" if details else ""))
        self._finish(ticket, Answer(code, message, newest_ns=ticket.newest_ns))


def _ended_early(ticket: Ticket) -> tuple[ErrorCode, str] | None:
    if ticket.cancelled:
        return ErrorCode.CANCELLED, "the question was cancelled"
    if ticket.expired:
        return ErrorCode.TIMEOUT, f"the deadline passed after {ticket.age_s:.1f} s"
    return None
