"""The engine: one worker thread owns the model and the memory and alternates between frames and questions.

Frames enter through `offer`, questions through `ask`, both from any thread and without waiting. The unit of work is
one frame, one token or one chunk of a prompt: neither a long answer nor the cameras block the other.

A frame: offer -> Mailbox -> Prefetch (decodes on its thread) -> Ingest (pairs, encodes) -> memory.
A question: ask -> RequestQueue -> Dialogue (prefills, decodes) -> RequestQueue.finish -> Request.answer.
A command: submit -> CommandQueue -> MemoryCommands.
"""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

import torch

from flash_vstream_ros.models.interface import VisionLanguageModel

from .answering.question import Answer, ErrorCode, Question, problem_of
from .answering.request import Request
from .answering.request_queue import RequestQueue
from .answering.throughput import PrefillThroughput
from .answering.warm_up import warm_up
from .config import EngineConfig
from .context import Context
from .control.command_queue import Command, CommandQueue
from .control.memory_commands import MemoryCommands
from .hooks import EngineHooks
from .ingest.faces import check_face_detector
from .ingest.mailbox import Frame, Mailbox, log_stamp_problem
from .memory_policies import memory_of
from .reports.kept_summaries import KeptSummaries
from .state import NOT_READY, State
from .status import Status
from .throttled_log import ThrottledLog
from .worker import Worker, WorkerStatus

Result = TypeVar("Result")

STOP_TIMEOUT_S = 10.0
LOAD_STOP_TIMEOUT_S = 0.5  # loading cannot be interrupted, and takes minutes
SHUTTING_DOWN = Answer(ErrorCode.CANCELLED, "the node is shutting down")


class Engine:
    """Life cycle of one model and one memory: start, activate, deactivate, stop. Thread safe.

    `load` returns the model; it is called on the worker's thread.
    """

    def __init__(self, config: EngineConfig, load: Callable[[], VisionLanguageModel], hooks: EngineHooks) -> None:
        self._config = config
        self._load = load
        self._hooks = hooks
        self._log = ThrottledLog(hooks.warn)
        self._mailboxes = {camera: Mailbox(config.sample_fps, config.stamp_watch()) for camera in config.cameras}
        self._requests = RequestQueue(config.question_queue)
        self._commands: CommandQueue[MemoryCommands] = CommandQueue()
        self.summaries = KeptSummaries()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._settled = threading.Event()  # loading has ended, with a model or without
        self._lock = threading.Lock()  # guards the two below; held while a question is checked and queued
        self._state = State.UNCONFIGURED
        self._active = False
        self._failure = ""
        self._worker: Worker | None = None  # while it runs
        self._worker_status = WorkerStatus()
        self._warm_up_failures = 0
        self._thread = threading.Thread(target=self._run_thread, name="flash-vstream-worker", daemon=True)

    def start(self) -> None:
        """Load the model on the worker's thread. Does nothing after stop()."""
        with self._lock:
            if self._stop.is_set():
                return
            self._state = State.LOADING
            self._thread.start()

    def wait_until_loaded(self) -> bool:
        """Block until the model is loaded. Returns False if it failed to load, or if stop() came first."""
        self._settled.wait()
        return self._state is State.READY and not self._stop.is_set()

    def activate(self) -> None:
        """Answer questions, from now on or once the model is loaded."""
        with self._lock:
            self._active = True
        self._wake.set()

    def deactivate(self) -> None:
        """Cancel all questions and accept no more; the memory is kept."""
        with self._lock:
            self._active = False
            self._requests.cancel_all()
        self._wake.set()

    def stop(self) -> bool:
        """End the worker and free model and memory; unfinished questions are answered CANCELLED. Safe to call twice.

        Waits up to ten seconds for a step to end, half a second for a model that is loading. Returns False if the
        worker had not ended by then.
        """
        with self._lock:
            self._stop.set()
            timeout_s = STOP_TIMEOUT_S if self._worker else LOAD_STOP_TIMEOUT_S
        self._commands.close(SHUTTING_DOWN.error_msg)
        self._wake.set()
        self._settled.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        with self._lock:
            self._state = State.FINALIZED
            self._requests.finish_all(SHUTTING_DOWN)
        return not self._thread.is_alive()

    def reconfigure(self, config: EngineConfig) -> None:
        """Adopt other rates and limits, from any thread. Raises ValueError if the cameras differ.

        Rates and limits of questions apply at once. The worker applies the rest before its next step: the sizes of the
        memory, and for the next question the instruction and the length of the answer.
        """
        if config.cameras != self._config.cameras:
            raise ValueError(f"the engine has the cameras {self._config.cameras}, which cannot become {config.cameras}")
        self._config = config
        for mailbox in self._mailboxes.values():
            mailbox.set_rate(config.sample_fps, config.jump_forward_ns)
        self._requests.capacity = config.question_queue
        self._wake.set()

    def offer(self, frame: Frame) -> None:
        """Pass a camera's newest frame to the engine. Never waits, never raises.

        Wakes another thread only if the frame is due, since the caller may lose the interpreter lock to that thread.
        """
        result = self._mailboxes[frame.camera].offer(frame)
        log_stamp_problem(result, frame.camera, self._config.on_jump_back, self._log)
        if result.is_due and (worker := self._worker) is not None:
            worker.ingest.prefetch.fetch(frame.camera)  # wakes the worker once the frame is decoded

    def reject(self, camera: str, reason: str, sentence: str) -> None:
        """Count and log an image that cannot become a frame."""
        self._mailboxes[camera].reject(reason)
        self._log.report(f"{camera}/{reason}", f"camera {camera}: dropped frame: {sentence}")

    def ask(self, question: Question) -> Request:
        """Queue a question. Never waits; a question that is refused comes back finished, with the reason."""
        newest_ns = max(mailbox.counts().newest_ns for mailbox in self._mailboxes.values())
        request = Request(question, question.deadline_s or self._config.deadline_s, newest_ns)
        invalid = problem_of(question, self._config.cameras, self._config.max_question_chars)
        refusal = Answer(ErrorCode.INVALID_REQUEST, invalid) if invalid else None
        with self._lock:  # a state change comes before the check, or after the push and then ends the request
            state = self.state
            is_available = state is State.READY and not self._stop.is_set()
            if is_available and refusal is None:
                refusal = self._requests.push(request)
        if not is_available:
            refusal = self._unavailable(state)
        if refusal is not None:
            self._requests.finish(request, replace(refusal, newest_ns=newest_ns))
        self._wake.set()
        return request

    def cancel(self, question_id: str) -> bool:
        """Cancel the unfinished question with this id. Returns False if there is none."""
        is_found = self._requests.cancel(question_id)
        self._wake.set()
        return is_found

    def cancel_all(self) -> int:
        """Cancel the question being answered and those that wait. Returns how many."""
        cancelled = self._requests.cancel_all()
        self._wake.set()
        return cancelled

    def submit(self, work: Callable[[MemoryCommands], Result]) -> Future[Result]:
        """Run a memory command on the worker before its next step, in the order of the calls. Never waits.

        The future raises NotReady if there is no worker, and whatever `work` raises; an inactive engine has a worker.
        Cancel the future to withdraw a command that has not started.
        """
        command = Command(work)
        if not self._commands.push(command):
            command.refuse(self._unavailable(self.state).error_msg)
        self._wake.set()
        return command.future

    @property
    def idle(self) -> bool:
        """Returns True if no question waits or is being answered."""
        return self._requests.idle

    @property
    def state(self) -> State:
        state = self._state
        return State.INACTIVE if state is State.READY and not self._active else state

    def status(self) -> Status:
        worker, counts = self._worker_status, self._requests.counts()
        running = self._worker
        snapshots = worker.snapshots if running is None else running.snapshots.status
        archive = worker.archive if running is None else running.archive.status
        memory_start = worker.memory_start if running is None else running.memory_start
        cache = worker.prefix_cache
        return Status(
            state=self.state,
            cameras=tuple((camera, mailbox.counts()) for camera, mailbox in self._mailboxes.items()),
            memory=worker.memory,
            answer_s=counts.answer_s,
            questions_answered=counts.answered,
            questions_failed=counts.failed,
            questions_waiting=counts.waiting,
            question_queue=self._requests.capacity,
            last_error=self._log.newest,
            paused=worker.paused,
            first_token_s=counts.first_token_s,
            questions_cached=counts.cached,
            prefix_cache=replace(cache, failures=cache.failures + self._warm_up_failures),
            snapshots=snapshots,
            archive=archive,
            memory_start=memory_start,
            blur_faces=self._config.blur_faces,
            watches=worker.watches,
        )

    def _unavailable(self, state: State) -> Answer:
        """The reason to refuse a question or command in `state`."""
        if state in (State.READY, State.INACTIVE) and self._stop.is_set():
            return SHUTTING_DOWN
        sentence = NOT_READY[state].format(failure=self._failure) + self._hooks.advise(state)
        return Answer(ErrorCode.NOT_READY, sentence)

    def _run_thread(self) -> None:
        try:
            self._load_and_run()
        except BaseException:  # a panic of a Rust library, too
            self._fail_with_defect()
        finally:  # no stack frame refers to model and memory any more
            self._hooks.unloaded()
            gc.collect()
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()

    def _load_and_run(self) -> None:
        try:
            if self._config.blur_faces:
                check_face_detector()
                self._hooks.info("faces are covered in every frame before it is used (privacy.blur_faces)")
            model = self._load()
            memory = memory_of(self._config.policy, self._config.timed_memory, model)
            context = Context(
                model, memory, self._log, self.summaries, self._wake, self._hooks.info, self._hooks.watch_event
            )
        except Exception as error:
            self._fail(str(error) or type(error).__name__)
            return
        throughput = self._warm_up(model) if self._config.warm_up and not self._stop.is_set() else None
        if self._stop.is_set():
            return
        self._hooks.loaded()
        worker = Worker(context, self._config, self._mailboxes, self._requests)
        worker.set_throughput(throughput or PrefillThroughput())
        try:
            self._open(worker)
            while not self._stop.is_set():
                self._step(worker)
            worker.cancel_answer(SHUTTING_DOWN.error_msg)
        except BaseException:
            self._fail_with_defect()
        finally:
            self._close(worker)

    def _warm_up(self, model: VisionLanguageModel) -> PrefillThroughput | None:
        began = time.perf_counter()
        throughput = warm_up(model, self._config, self._log, self._stop)
        if throughput is None:
            self._warm_up_failures += 1
        else:
            self._hooks.info(f"warm-up took {time.perf_counter() - began:.2f} s")
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        return throughput

    def _open(self, worker: Worker) -> None:
        """Let other threads reach the worker."""
        model = worker.model
        for began in (worker.begin(self._stop), worker.watches.restore()):
            if began:
                self._hooks.info(began)
        self._worker_status = worker.status()
        self._worker = worker
        self._commands.open()
        self._hooks.info(f"ready: {model.name} on {model.device}, {model.dtype}, {model.attention_kernel}")
        self._set_state(State.READY)

    def _step(self, worker: Worker) -> None:
        """Do one unit of work, or wait until there is some."""
        self._wake.clear()
        began = time.monotonic()  # a later question waits for the next step: `reconfigure` may have come before it
        while (command := self._commands.pop()) is not None:
            command.run(worker.commands)
            try:
                self._worker_status = worker.status()  # before the caller gets the result
            finally:
                command.resolve()
        if worker.apply(self._config):
            self._worker_status = worker.status()
        any_frame = worker.ingest_frames()
        if worker.memory_changed(self._worker_status):
            self._worker_status = worker.status()
        is_answering = worker.answer(asked_before=began)
        is_rebuilding = self._active and worker.rebuild(is_answering)
        is_busy = is_answering or any_frame or is_rebuilding
        waits = [worker.snapshots.save_if_due()]
        if not self._active:
            worker.watches.suspend()
        if is_busy:
            if self._active and worker.watches.note_waiting():
                self._update_background_status(worker)
            return
        if self._active:
            waits.append(worker.background_step())
        self._update_background_status(worker)
        self._wake.wait(min((wait_s for wait_s in waits if wait_s is not None), default=None))

    def _update_background_status(self, worker: Worker) -> None:
        self._worker_status = replace(
            self._worker_status, prefix_cache=worker.prefix_cache_status(), watches=worker.watches.status
        )

    def _close(self, worker: Worker) -> None:
        """Detach the worker from other threads, and free the model and the memory."""
        self._worker = None
        self._commands.close(SHUTTING_DOWN.error_msg)
        worker.close()
        self._worker_status = replace(
            self._worker_status,
            prefix_cache=worker.prefix_cache_status(),
            snapshots=worker.snapshots.status,
            archive=worker.archive.status,
            memory_start=worker.memory_start,
        )

    def _set_state(self, state: State) -> None:
        with self._lock:
            if not self._stop.is_set():
                self._state = state
        self._settled.set()

    def _fail_with_defect(self) -> None:
        self._fail(f"the engine stopped: {traceback.format_exc()}")

    def _fail(self, why: str) -> None:
        """Answer every question with the reason, and refuse further ones."""
        self._log.report("engine", why)
        self._failure = why
        self._set_state(State.FAILED)
        self._commands.close(self._unavailable(self.state).error_msg)
        self._requests.finish_all(Answer(ErrorCode.INTERNAL, why))
