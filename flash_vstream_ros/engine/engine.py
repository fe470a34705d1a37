"""The engine: one worker thread owns the model and the memory and alternates between frames and questions.

Frames come in by `offer`, questions by `ask`, both from any thread and neither ever waits. The unit of work is
one frame or one token, so a long answer does not hold up the camera and a busy camera does not hold up an answer.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from flash_vstream_ros.memory.flash_memory import FlashMemory, FlashMemoryConfig
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.prompt import INSTRUCTION

from .dialogue import Dialogue
from .durations import Durations
from .frames import Frame, Mailbox
from .ingest import Ingest
from .notices import Notices
from .questions import Answer, ErrorCode, Question, Ticket, WaitingLine
from .state import State
from .status import MemoryFigures, Status

STOP_TIMEOUT_S = 10.0
SHUTTING_DOWN = Answer(ErrorCode.CANCELLED, "the node is shutting down")


@dataclass(frozen=True)
class EngineConfig:
    """Rates and bounds. `sample_fps` is in frames per second of message time and sets the memory's slot period."""

    cameras: tuple[str, ...] = ("camera",)
    sample_fps: float = 1.0
    memory: FlashMemoryConfig = field(default_factory=FlashMemoryConfig)
    question_queue: int = 4
    deadline_s: float = 30.0
    max_new_tokens: int = 128
    max_question_chars: int = 4096
    evidence: int = 3
    instruction: str = INSTRUCTION

    @property
    def slot_period_ns(self) -> int:
        return round(2e9 / self.sample_fps)

    @property
    def timed_memory(self) -> FlashMemoryConfig:
        """`memory`, with the clock that follows from the sampling rate."""
        return replace(self.memory, slot_period_ns=self.slot_period_ns)


class Engine:
    """Life cycle of frames and questions around one model and one memory.

    `load` makes the model, on the worker's thread; `say` gets a sentence whenever there is trouble and when the
    model is ready.
    """

    def __init__(
        self,
        config: EngineConfig,
        load: Callable[[], VisionLanguageModel],
        say: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._config = config
        self._load = load
        self._say = say
        self._notices = Notices(warn)
        self._mailboxes = {camera: Mailbox(config.sample_fps) for camera in config.cameras}
        self._line = WaitingLine(config.question_queue)
        self._underway: set[Ticket] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._state = State.LOADING
        self._failure = ""
        self._answer_s = Durations()
        self._answered = 0
        self._failed = 0
        self._figures = MemoryFigures()
        self._worker = threading.Thread(target=self._work, name="flash-vstream-worker", daemon=True)

    def start(self) -> None:
        self._worker.start()

    def stop(self) -> None:
        """End the worker; questions under way are answered CANCELLED. Waits up to ten seconds for a step to end."""
        with self._lock:
            self._stopping = True
        self._wake.set()
        if self._worker.is_alive():
            self._worker.join(STOP_TIMEOUT_S)
        self._refuse_waiting(SHUTTING_DOWN)

    def reconfigure(self, config: EngineConfig) -> None:
        """Go on with other rates and bounds, from any thread. Raises ValueError when the cameras are others.

        Rates and what bounds questions hold at once. The worker does the rest before its next frame or token: the sizes
        of the memory, and for the next question the instruction and the longest answer.
        """
        if config.cameras != self._config.cameras:
            raise ValueError(f"the engine has the cameras {self._config.cameras}, which cannot become {config.cameras}")
        self._config = config
        for mailbox in self._mailboxes.values():
            mailbox.sample(config.sample_fps)
        self._line.longest = config.question_queue
        self._wake.set()

    def offer(self, frame: Frame) -> None:
        """Hand in a camera's newest frame. Never waits, never raises."""
        reason = self._mailboxes[frame.camera].offer(frame)
        if reason is not None and reason != "superseded":
            self._notices.give(f"{frame.camera}/{reason}", _STAMP_TROUBLE[reason].format(camera=frame.camera))
        self._wake.set()

    def reject(self, camera: str, reason: str, sentence: str) -> None:
        """Count and report an image that cannot become a frame."""
        self._mailboxes[camera].reject(reason)
        self._notices.give(f"{camera}/{reason}", f"camera {camera!r}: frame dropped: {sentence}")

    def ask(self, question: Question) -> Ticket:
        """Queue a question. Never waits: what cannot be answered comes back as a finished ticket with its error."""
        newest_ns = max(mailbox.counts().newest_ns for mailbox in self._mailboxes.values())
        ticket = Ticket(question, question.deadline_s or self._config.deadline_s, newest_ns)
        refusal = self._refusal(question)
        if refusal is None:
            with self._lock:
                self._underway.add(ticket)
            if not self._line.join(ticket):
                refusal = (
                    ErrorCode.BUSY,
                    f"{self._line.longest} questions are waiting already; ask again later",
                )
        if refusal is not None:
            self._finish(ticket, Answer(*refusal, newest_ns=ticket.newest_ns))
        self._wake.set()
        if self._stopping:
            self._refuse_waiting(SHUTTING_DOWN)
        return ticket

    def cancel_all(self) -> int:
        """Cancel the question being answered and those that wait. Returns how many."""
        with self._lock:
            underway = list(self._underway)
        for ticket in underway:
            ticket.cancel()
        self._wake.set()
        return len(underway)

    @property
    def idle(self) -> bool:
        with self._lock:
            return not self._underway

    def status(self) -> Status:
        return Status(
            state=self._state,
            cameras=tuple((camera, mailbox.counts()) for camera, mailbox in self._mailboxes.items()),
            memory=self._figures,
            answer_s=self._answer_s.p50_p95(),
            questions_answered=self._answered,
            questions_failed=self._failed,
            questions_waiting=len(self._line),
            question_queue=self._line.longest,
            last_error=self._notices.newest,
        )

    def _refusal(self, question: Question) -> tuple[ErrorCode, str] | None:
        """Why a question cannot be queued: the first reason found, or None."""
        if self._state is State.LOADING:
            return ErrorCode.NOT_READY, "the model is still loading; ask again when ~/status says READY"
        if self._state is State.FAILED:
            return ErrorCode.NOT_READY, f"the node cannot answer: {self._failure}"
        if (invalid := self._invalid(question)) is not None:
            return ErrorCode.INVALID_REQUEST, invalid
        return None

    def _invalid(self, question: Question) -> str | None:
        longest = self._config.max_question_chars
        unknown = sorted(set(question.cameras) - set(self._config.cameras))
        if not question.text.strip():
            return "the question is empty"
        if len(question.text) > longest:
            return f"the question has {len(question.text)} characters; question.max_chars allows {longest}"
        if unknown:
            return f"unknown camera {', '.join(unknown)}; this node knows {', '.join(self._config.cameras)}"
        if question.since_ns < 0 or question.until_ns < 0:
            return "since and until must not be negative"
        if question.until_ns and question.since_ns > question.until_ns:
            return "since lies after until; give an interval of message stamps, or zero to leave an end open"
        if question.deadline_s < 0:
            return "the deadline is negative; give the time allowed, or zero for the default"
        return None

    def _finish(self, ticket: Ticket, answer: Answer) -> None:
        answer = replace(answer, duration_s=ticket.age_s)
        if answer.error_code is ErrorCode.NONE:
            self._answer_s.add(answer.duration_s)
        with self._lock:
            self._underway.discard(ticket)
            self._answered += answer.error_code is ErrorCode.NONE
            self._failed += answer.error_code is not ErrorCode.NONE
        ticket.finish(answer)

    def _refuse_waiting(self, answer: Answer) -> None:
        while (ticket := self._line.next()) is not None:
            self._finish(ticket, answer)

    def _work(self) -> None:
        try:
            model = self._load()
        except Exception as error:
            self._give_up(str(error) or type(error).__name__)
            return
        try:
            self._serve(model)
        except Exception:  # a defect: say it where the node's user sees it, and answer NOT_READY from now on
            self._give_up(f"the engine stopped: {traceback.format_exc()}")

    def _give_up(self, why: str) -> None:
        self._notices.give("engine", why)
        self._failure = why
        self._state = State.FAILED
        self._refuse_waiting(Answer(ErrorCode.INTERNAL, why))
        with self._lock:
            underway = list(self._underway)
        for ticket in underway:
            self._finish(ticket, Answer(ErrorCode.INTERNAL, why))

    def _serve(self, model: VisionLanguageModel) -> None:
        config = self._config
        memory = FlashMemory(config.timed_memory)
        ingest = Ingest(model, memory, self._mailboxes, self._notices, config.slot_period_ns)
        dialogue = Dialogue(
            model,
            memory,
            self._notices,
            self._line,
            self._finish,
            max_new_tokens=config.max_new_tokens,
            evidence=config.evidence,
        )
        model.instruction = config.instruction
        self._figures = _figures(memory, ingest, model.device)
        self._state = State.READY
        self._say(f"ready: {model.name} on {model.device}, {model.dtype}, {model.attention_kernel}")
        while not self._stopping:
            self._wake.clear()
            if config is not self._config:
                config = self._config
                ingest.slot_period_ns = config.slot_period_ns
                dialogue.max_new_tokens, dialogue.evidence = config.max_new_tokens, config.evidence
                model.instruction = config.instruction
                self._resize(memory, config.timed_memory)
                self._figures = _figures(memory, ingest, model.device)
            took_in = ingest.step()
            if memory.slots_seen != self._figures.slots:
                self._figures = _figures(memory, ingest, model.device)
            if not (dialogue.step() or took_in):
                self._wake.wait()
        dialogue.close(SHUTTING_DOWN.error_msg)

    def _resize(self, memory: FlashMemory, wanted: FlashMemoryConfig) -> None:
        """The clock is followed in any case; what there is no room for costs a message, and the memory stays."""
        before = memory.config
        try:
            memory.resize(wanted)
        except Exception as error:
            memory.resize(replace(before, slot_period_ns=wanted.slot_period_ns))
            self._notices.give(
                "memory", f"the memory keeps its {before.csm_slots} CSM and {before.dam_slots} DAM slots: {error}"
            )


def _figures(memory: FlashMemory, ingest: Ingest, device: torch.device) -> MemoryFigures:
    return MemoryFigures(
        slots=memory.slots_seen,
        entries=memory.entries,
        capacity=memory.capacity,
        tokens=memory.tokens,
        bytes=memory.bytes,
        device_bytes=torch.cuda.memory_allocated(device) if device.type == "cuda" else 0,
        first_ns=memory.first_ns,
        last_ns=memory.last_ns,
        novelty_sum=ingest.novelty_sum,
        encode_s=ingest.encode_s.p50_p95(),
        update_s=ingest.update_s.p50_p95(),
    )


_STAMP_TROUBLE = {
    "zero_stamp": "camera {camera!r}: frame dropped: its stamp is zero; set header.stamp in the camera driver",
    "stamp_not_newer": "camera {camera!r}: frame dropped: its stamp is not newer than the one before;"
    " did a bag loop, or do two publishers share the topic?",
}
