"""The engine: one worker thread owns the model and the memory and alternates between frames and questions.

Frames come in by `offer`, questions by `ask`, both from any thread and neither ever waits. The unit of work is
one frame, one token or a portion of a prompt, so a long answer does not hold up the camera and a busy camera does not
hold up an answer.
"""

from __future__ import annotations

import gc
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

import torch

from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.scope import BadScope, check_scope
from flash_vstream_ros.models.interface import VisionLanguageModel

from .answering.request_queue import Answer, ErrorCode, Question, Request, RequestQueue
from .answering.throughput import PrefillThroughput
from .answering.uncached_reader import PrefixCacheStatus, UncachedReader
from .answering.warm_up import warm_up
from .config import EngineConfig
from .control.command_queue import CommandQueue
from .control.memory_commands import MemoryCommands
from .durations import Durations
from .ingest.mailbox import Frame, Mailbox
from .ingest.stamps import stamp_trouble
from .memory_policies import memory_of
from .state import NOT_READY, State
from .status import MemoryStats, Status
from .throttled_log import ThrottledLog
from .worker import Worker

Result = TypeVar("Result")

STOP_TIMEOUT_S = 10.0
LOAD_STOP_TIMEOUT_S = 0.5  # loading cannot be interrupted, and a model takes minutes
SHUTTING_DOWN = Answer(ErrorCode.CANCELLED, "the node is shutting down")


class Engine:
    """Life cycle of frames and questions around one model and one memory: start, activate, deactivate, stop.

    `load` makes the model, on the worker's thread; `say` and `warn` get a sentence when the model is ready and
    whenever there is trouble; `advise` tells who asks too early what to do about a state.
    """

    def __init__(
        self,
        config: EngineConfig,
        load: Callable[[], VisionLanguageModel],
        say: Callable[[str], None],
        warn: Callable[[str], None],
        advise: Callable[[State], str] = lambda _: "",
    ) -> None:
        self._config = config
        self._load = load
        self._say = say
        self._advise = advise
        self._log = ThrottledLog(warn)
        self._mailboxes = {camera: Mailbox(config.sample_fps, config.stamp_watch()) for camera in config.cameras}
        self._line = RequestQueue(config.question_queue)
        self._orders: CommandQueue[MemoryCommands] = CommandQueue(self._no_worker)
        self._underway: set[Request] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._active = False
        self._serving = False
        self._state = State.UNCONFIGURED
        self._settled = threading.Event()
        self._failure = ""
        self._answer_s = Durations()
        self._first_token_s = Durations()
        self._answered = 0
        self._answered_warm = 0
        self._failed = 0
        self._figures = MemoryStats()
        self._warm = PrefixCacheStatus()
        self._cold_starts = 0  # warm-ups that failed
        self._paused = False
        self._fetch: Callable[[str], None] = _nothing  # begins to decode what a camera has sent
        self._worker = threading.Thread(target=self._work, name="flash-vstream-worker", daemon=True)

    def start(self) -> None:
        """Let the worker load the model. Does nothing after stop()."""
        with self._lock:
            if self._stopping:
                return
            self._state = State.LOADING
            self._worker.start()

    def wait_until_loaded(self) -> bool:
        """Block until the model is there; False when it cannot be had, or when stop() came first."""
        self._settled.wait()
        return self._state is State.READY and not self._stopping

    def activate(self) -> None:
        """Answer questions from now on, or from when the model is there."""
        self._active = True
        self._wake.set()

    def deactivate(self) -> None:
        """Cancel the questions under way and answer no more; the memory is kept."""
        self._active = False
        self.cancel_all()

    def stop(self) -> bool:
        """End the worker, drop model and memory; questions under way are answered CANCELLED. Safe to call twice.

        Waits up to ten seconds for a step to end, half a second for a model that is loading. False when the worker
        had not ended by then.
        """
        with self._lock:
            self._stopping = True
            patience_s = STOP_TIMEOUT_S if self._serving else LOAD_STOP_TIMEOUT_S
        self._orders.close(SHUTTING_DOWN.error_msg)
        self._wake.set()
        self._settled.set()
        if self._worker.is_alive():
            self._worker.join(patience_s)
        self._refuse_waiting(SHUTTING_DOWN)
        with self._lock:
            self._state = State.FINALIZED
        return not self._worker.is_alive()

    def reconfigure(self, config: EngineConfig) -> None:
        """Go on with other rates and bounds, from any thread. Raises ValueError when the cameras are others.

        Rates and what bounds questions hold at once. The worker does the rest before its next frame or token: the sizes
        of the memory, and for the next question the instruction and the longest answer.
        """
        if config.cameras != self._config.cameras:
            raise ValueError(f"the engine has the cameras {self._config.cameras}, which cannot become {config.cameras}")
        self._config = config
        for mailbox in self._mailboxes.values():
            mailbox.sample(config.sample_fps, config.leap_ns)
        self._line.longest = config.question_queue
        self._wake.set()

    def offer(self, frame: Frame) -> None:
        """Hand in a camera's newest frame. Never waits, never raises."""
        noted = self._mailboxes[frame.camera].offer(frame)
        trouble = stamp_trouble(noted.stamp, noted.jumped_ns, self._config.on_jump_back)
        if trouble:
            self._log.report(f"{frame.camera}/{noted.stamp.name}", f"camera {frame.camera!r}: {trouble}")
        self._fetch(frame.camera)
        self._wake.set()

    def order(self, work: Callable[[MemoryCommands], Result]) -> Future[Result]:
        """Have the worker do `work` before its next frame or token, in the order of the calls. Never waits.

        The future raises NotReady when there is no memory to work on, and whatever `work` raises; an inactive engine
        has one. Cancel it to withdraw work that has not begun.
        """
        future = self._orders.place(work)
        self._wake.set()
        return future

    def reject(self, camera: str, reason: str, sentence: str) -> None:
        """Count and report an image that cannot become a frame."""
        self._mailboxes[camera].reject(reason)
        self._log.report(f"{camera}/{reason}", f"camera {camera!r}: frame dropped: {sentence}")

    def ask(self, question: Question) -> Request:
        """Queue a question. Never waits: what cannot be answered comes back as a finished request with its error."""
        newest_ns = max(mailbox.counts().newest_ns for mailbox in self._mailboxes.values())
        request = Request(question, question.deadline_s or self._config.deadline_s, newest_ns)
        refusal = self._refusal(question)
        if refusal is None:
            with self._lock:
                in_use = bool(question.id) and any(other.question.id == question.id for other in self._underway)
                if not in_use:
                    self._underway.add(request)
            if in_use:
                refusal = ErrorCode.INVALID_REQUEST, f"question_id {question.id!r} is in use by a question under way"
            elif not self._line.join(request):
                refusal = (
                    ErrorCode.BUSY,
                    f"{self._line.longest} questions are waiting already; ask again later",
                )
        if refusal is not None:
            self._finish(request, Answer(*refusal, newest_ns=request.newest_ns))
        self._wake.set()
        if self._stopping:
            self._refuse_waiting(SHUTTING_DOWN)
        return request

    def cancel(self, question_id: str) -> bool:
        """Cancel the question with this id. Returns False if none is under way."""
        with self._lock:
            chosen = [request for request in self._underway if request.question.id == question_id]
        for request in chosen:
            request.cancel()
        self._wake.set()
        return bool(chosen)

    def cancel_all(self) -> int:
        """Cancel the question being answered and those that wait. Returns how many."""
        with self._lock:
            underway = list(self._underway)
        for request in underway:
            request.cancel()
        self._wake.set()
        return len(underway)

    @property
    def idle(self) -> bool:
        with self._lock:
            return not self._underway

    @property
    def state(self) -> State:
        state = self._state
        return State.INACTIVE if state is State.READY and not self._active else state

    def status(self) -> Status:
        return Status(
            state=self.state,
            cameras=tuple((camera, mailbox.counts()) for camera, mailbox in self._mailboxes.items()),
            memory=self._figures,
            answer_s=self._answer_s.p50_p95(),
            questions_answered=self._answered,
            questions_failed=self._failed,
            questions_waiting=len(self._line),
            question_queue=self._line.longest,
            last_error=self._log.newest,
            paused=self._paused,
            first_token_s=self._first_token_s.p50_p95(),
            questions_cached=self._answered_warm,
            warm=self._warm,
        )

    def _refusal(self, question: Question) -> tuple[ErrorCode, str] | None:
        """Why a question cannot be queued: the first reason found, or None."""
        state = self.state
        if state is not State.READY:
            return ErrorCode.NOT_READY, self._not_ready(state)
        if (invalid := self._invalid(question)) is not None:
            return ErrorCode.INVALID_REQUEST, invalid
        return None

    def _not_ready(self, state: State) -> str:
        return NOT_READY[state].format(failure=self._failure) + self._advise(state)

    def _no_worker(self) -> str:
        """Why nobody is there to carry out an order."""
        state = self.state
        return SHUTTING_DOWN.error_msg if state in (State.READY, State.INACTIVE) else self._not_ready(state)

    def _invalid(self, question: Question) -> str | None:
        longest = self._config.max_question_chars
        if not question.text.strip():
            return "the question is empty"
        if len(question.text) > longest:
            return f"the question has {len(question.text)} characters; question.max_chars allows {longest}"
        try:
            check_scope(question.scope, self._config.cameras)
        except BadScope as error:
            return str(error)
        if question.deadline_s < 0:
            return "the deadline is negative; give the time allowed, or zero for the default"
        return None

    def _finish(self, request: Request, answer: Answer) -> None:
        answer = replace(answer, duration_s=request.age_s)
        if answer.error_code is ErrorCode.NONE:
            self._answer_s.add(answer.duration_s)
            self._first_token_s.add(answer.time_to_first_token_s or answer.duration_s)
        with self._lock:
            self._underway.discard(request)
            self._answered_warm += answer.error_code is ErrorCode.NONE and answer.cached_tokens > 0
            self._answered += answer.error_code is ErrorCode.NONE
            self._failed += answer.error_code is not ErrorCode.NONE
        request.finish(answer)

    def _refuse_waiting(self, answer: Answer) -> None:
        while (request := self._line.next()) is not None:
            self._finish(request, answer)

    def _work(self) -> None:
        try:
            self._load_and_serve()
        except Exception:  # a defect: say it where the node's user sees it, and answer NOT_READY from now on
            self._give_up(f"the engine stopped: {traceback.format_exc()}")
        _release_device_memory()

    def _load_and_serve(self) -> None:
        try:
            model = self._load()
            memory = memory_of(self._config.policy, self._config.timed_memory, model)
        except Exception as error:
            self._give_up(str(error) or type(error).__name__)
            return
        pace = None
        if self._config.warm_up and not self._stopping:
            pace = warm_up(model, self._config, self._log, self._say, lambda: self._stopping)
            self._cold_starts += pace is None
            _release_device_memory()
        if not self._stopping:
            gc.freeze()  # what was loaded stays; each full collection would look at it for a fifth of a second
            self._serve(model, memory, pace or PrefillThroughput())

    def _become(self, state: State) -> None:
        with self._lock:
            if not self._stopping:
                self._state = state
        self._settled.set()

    def _give_up(self, why: str) -> None:
        self._log.report("engine", why)
        self._failure = why
        self._become(State.FAILED)
        self._orders.close(self._no_worker())
        self._refuse_waiting(Answer(ErrorCode.INTERNAL, why))
        with self._lock:
            underway = list(self._underway)
        for request in underway:
            self._finish(request, Answer(ErrorCode.INTERNAL, why))

    def _serve(self, model: VisionLanguageModel, memory: Memory, pace: PrefillThroughput) -> None:
        serving = Worker(
            model, memory, self._config, self._mailboxes, self._log, self._line, self._finish, self._wake.set, pace
        )

        def report() -> None:
            self._figures = serving.figures
            self._warm = self._warm_figures(serving.reader)
            self._paused = serving.commands.paused

        report()
        self._fetch = serving.ingest.ahead.fetch
        self._serving = True
        self._orders.open()
        self._say(f"ready: {model.name} on {model.device}, {model.dtype}, {model.attention_kernel}")
        self._become(State.READY)
        while not self._stopping:
            self._wake.clear()
            self._orders.run_pending(serving.commands, report)
            if serving.follow(self._config):
                report()
            took_in = serving.take_in()
            if serving.differs_from(self._figures):
                report()
            if not (serving.answer() or took_in):
                wait_s = serving.reader.read_ahead() if self._active else None
                self._warm = self._warm_figures(serving.reader)
                self._wake.wait(wait_s)
        self._fetch = _nothing
        self._orders.close(SHUTTING_DOWN.error_msg)
        serving.close(SHUTTING_DOWN.error_msg)
        self._warm = self._warm_figures(serving.reader)

    def _warm_figures(self, reader: UncachedReader) -> PrefixCacheStatus:
        figures = reader.figures
        return replace(figures, failures=figures.failures + self._cold_starts)


def _nothing(_: str) -> None:
    pass


def _release_device_memory() -> None:
    gc.unfreeze()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
