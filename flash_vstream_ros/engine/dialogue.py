"""The way out: questions wait in a bounded queue and are answered one at a time, one token or portion a step."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.spans import Interval

from .notices import Notices
from .questions import Answer, ErrorCode, Evidence, Question, Ticket, WaitingLine
from .reading import ColdReader, Reading
from .selection import Selection

UNTRAINED = "[untrained] "


@dataclass
class _Active:
    """The question being answered, on its own view of the memory."""

    ticket: Ticket
    reading: Reading
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
            confidence=math.exp(sum(said) / len(said)) if said else 0.0,
            evidence=_strongest(self.reading, evidence) if said else (),
        )


def _strongest(reading: Reading, count: int) -> tuple[Evidence, ...]:
    pairs = zip(reading.shown.entries, reading.answering.attention, strict=False)
    ranked = sorted(pairs, key=lambda pair: -pair[1])
    return tuple(Evidence(entry, share) for entry, share in ranked[:count])


class Dialogue:
    """Turns tickets into answers. Owned by the engine's worker.

    `max_new_tokens` and `evidence` may change between two steps; the former holds from the next question on.
    """

    def __init__(
        self,
        reader: ColdReader,
        trained: bool,
        memory: Memory,
        notices: Notices,
        line: WaitingLine,
        finish: Callable[[Ticket, Answer], None],
        *,
        max_new_tokens: int,
        evidence: int,
    ) -> None:
        self._reader = reader
        self._trained = trained
        self._memory = memory
        self._notices = notices
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
            self._guard(self._active.ticket, self._go_on)
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
            for entry in active.reading.shown.entries
        ):
            return
        self._let_go()
        message = "what the answer was made from was forgotten meanwhile; ask again"
        self._finish(active.ticket, Answer(ErrorCode.CANCELLED, message, newest_ns=active.ticket.newest_ns))

    def _guard(self, ticket: Ticket, work: Callable[[], None]) -> None:
        """Whatever goes wrong while answering ends that answer, and only that."""
        try:
            work()
        except torch.OutOfMemoryError as error:
            spoke = self._active is not None and bool(self._active.log_probabilities)
            self._let_go()
            room_made = self._reader.relieve()
            if room_made and not spoke:
                self._line.rejoin(ticket)
                return
            self._fail(ticket, ErrorCode.OUT_OF_MEMORY, f"the device ran out of memory: {error}")
        except Exception as error:
            self._let_go()
            self._reader.clear()
            self._fail(ticket, ErrorCode.INTERNAL, f"{type(error).__name__}: {error}", traceback.format_exc())

    def _begin(self, ticket: Ticket) -> None:
        if (early := _ended_early(ticket)) is not None:
            self._finish(ticket, Answer(*early, newest_ns=ticket.newest_ns))
            return
        question = ticket.question
        reading = self._reader.read(question, question.max_new_tokens or self.max_new_tokens)
        if reading is None:
            why = self._why_empty(question)
            self._finish(ticket, Answer(ErrorCode.NO_FRAMES, why, newest_ns=ticket.newest_ns))
            return
        shown = reading.shown
        self._active = _Active(
            ticket,
            reading,
            Answer(
                cameras=shown.cameras,
                covered_since_ns=shown.first_ns,
                covered_until_ns=shown.last_ns,
                frame_id=max(shown.entries, key=lambda entry: entry.last_ns).frame_id,
                newest_ns=ticket.newest_ns,
                memory_tokens=reading.memory_tokens,
                warm_tokens=reading.warm_tokens,
                unread_slots=reading.unread_slots,
            ),
            pieces=[UNTRAINED] if ticket.begun and not self._trained else [],
        )
        if not (ticket.begun or self._trained):
            self._say(UNTRAINED)
        ticket.begun = True

    def _why_empty(self, question: Question) -> str:
        if not self._memory.entries:
            forgotten = self._memory.slots_seen > 0
            before = "all that was seen is forgotten" if forgotten else "nothing seen yet"
            return f"{before}: the memory takes in pairs of sampled frames; does a camera publish on image?"
        if self._memory.saw(question.cameras, question.since_ns, question.until_ns):
            return "what was seen then is known only as part of longer spans of time; ask about a longer one"
        return "nothing in the memory matches the cameras and stamps asked for"

    def _go_on(self) -> None:
        active = self._active
        assert active is not None
        if (early := _ended_early(active.ticket)) is not None:
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
            active.draft = replace(active.draft, time_to_first_token_s=active.ticket.age_s)
        active.log_probabilities.append(math.log(max(token.probability, 1e-30)))
        self._say(token.text)

    def _say(self, piece: str) -> None:
        assert self._active is not None
        self._active.pieces.append(piece)
        self._active.ticket.say(piece)

    def _end(self, code: ErrorCode = ErrorCode.NONE, message: str = "") -> None:
        assert self._active is not None
        ticket, answer = self._active.ticket, self._active.answer(code, message, self.evidence)
        self._let_go()
        self._finish(ticket, answer)

    def _let_go(self) -> None:
        self._active = None
        self._reader.done()

    def _fail(self, ticket: Ticket, code: ErrorCode, message: str, details: str = "") -> None:
        self._notices.give(code.name, f"question failed: {message}" + (f"\n{details}" if details else ""))
        self._finish(ticket, Answer(code, message, newest_ns=ticket.newest_ns))


def _ended_early(ticket: Ticket) -> tuple[ErrorCode, str] | None:
    if ticket.cancelled:
        return ErrorCode.CANCELLED, "the question was cancelled"
    if ticket.expired:
        return ErrorCode.TIMEOUT, f"the deadline passed after {ticket.age_s:.1f} s"
    return None
