"""Answers queued questions and searches one at a time; a step is one chunk of a prompt or one token."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

import torch

from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.interface import ModelError

from .active_answer import ActiveAnswer, with_memory
from .prefiller import Prefiller
from .question import Answer, ErrorCode
from .recollection import KeyFrames, Recollection
from .request import Request
from .request_queue import RequestQueue
from .search import UnsearchableImage, moments_like, moments_of

NO_ARCHIVE = "no archive can be searched: it needs archive.path, archive.max_gib, archive.search_slots and policy flash"
NOTHING_ARCHIVED = "no archived key frame matches the cameras, stamps and place asked for"
FORGOTTEN = "the answer was cancelled: a part of the memory that it used was forgotten meanwhile; ask again"


class Dialogue:
    """Turns requests into answers. Owned by the engine's worker."""

    def __init__(
        self,
        context: Context,
        config: EngineConfig,
        prefiller: Prefiller,
        requests: RequestQueue,
        archive: KeyFrames | None = None,
        notice: Callable[[], str] = lambda: "",
    ) -> None:
        """`notice` returns a sentence for replies on what the memory lacks at present; "" if it is complete."""
        self._context = context
        self._model = context.model
        self._memory = context.memory
        self._log = context.log
        self._prefiller = prefiller
        self._requests = requests
        self._archive = archive if isinstance(context.memory, FlashMemory) else None
        self._recollection: Recollection | None = None  # of the next answer
        self._notice = notice
        self._active: ActiveAnswer | None = None
        self.apply(config)

    def apply(self, config: EngineConfig) -> None:
        """Adopt new limits. The answer being generated keeps its limit of tokens."""
        self._max_new_tokens = config.max_new_tokens
        self._evidence = config.evidence
        self._second_look = config.second_look

    @property
    def busy(self) -> bool:
        """Returns True while an answer is being generated, or key frames for it are encoded."""
        return self._active is not None or self._recollection is not None

    def started_within(self, seconds: float) -> bool:
        """Returns True if an answer is being generated that started less than `seconds` ago."""
        return self._active is not None and time.monotonic() - self._active.started < seconds

    def step(self, asked_before: float = math.inf) -> bool:
        """Start the next question, encode a key frame for it, prefill a chunk of its prompt, or decode one token.

        Returns False if there is nothing to answer that was `asked_before` this time of the monotonic clock.
        """
        for ended in self._requests.pop_ended():
            self._start(ended)
        if (search := self._search) is not None and self._requests.has_question(asked_before):
            self._postpone(search)
        if self._active is not None:
            self._guard(self._active.request, self._continue)
        elif self._recollection is not None:
            self._guard(self._recollection.request, self._recollect)
        elif (request := self._requests.pop(asked_before)) is not None:
            self._guard(request, lambda: self._begin(request))
        else:
            return False
        return True

    @property
    def _search(self) -> Request | None:
        """The search being processed."""
        under_way = self._active or self._recollection
        return under_way.request if under_way is not None and under_way.request.question.is_search else None

    def close(self, message: str) -> None:
        """Cancel the answer being generated."""
        if self._recollection is not None:
            self._end_recollection(ErrorCode.CANCELLED, message)
        if self._active is not None:
            self._finish_active(ErrorCode.CANCELLED, message)

    def forget(self, scope: Scope) -> None:
        """Cancel the answer being generated, and discard its text, if it uses anything in `scope`."""
        if self._recollection is not None and self._recollection.may_use(scope):
            self._end_recollection(ErrorCode.CANCELLED, FORGOTTEN)
        active = self._active
        if active is None or not active.may_use(scope):
            return
        self._drop_active()
        self._finish(active.request, ErrorCode.CANCELLED, FORGOTTEN)

    def _guard(self, request: Request, work: Callable[[], None]) -> None:
        """Run one step of `request`; an error ends only this request."""
        try:
            work()
        except torch.OutOfMemoryError as error:
            has_streamed = self._active is not None and bool(self._active.probabilities)
            self._drop_active()
            is_freed = self._prefiller.free_device_memory()
            if is_freed and not has_streamed:
                self._requests.push_front(request)
                return
            self._fail(request, ErrorCode.OUT_OF_MEMORY, f"the device ran out of memory: {error}")
        except Exception as error:
            self._drop_active()
            self._prefiller.clear()
            self._fail(request, ErrorCode.INTERNAL, f"{type(error).__name__}: {error}", traceback.format_exc())

    def _begin(self, request: Request) -> None:
        """Start an answer, or first a recollection, if the memory has too few moments of the interval."""
        scope = request.question.scope
        if request.question.archived:
            everything = self._archive.recall_widely(scope) if self._archive is not None else None
            if everything is None:
                self._finish(request, ErrorCode.INVALID_REQUEST, NO_ARCHIVE)
            else:
                self._recollection = Recollection(request, self._context, everything)
            return
        if self._archive is not None and scope.interval.is_bounded:
            known = len(self._memory.list_entries(scope))
            if (recalled := self._archive.recall(scope, known)) is not None:
                self._recollection = Recollection(request, self._context, recalled, known)
                return
        self._start(request)

    def _recollect(self) -> None:
        recollection = self._recollection
        assert recollection is not None
        if (ended := _ended(recollection.request)) is not None:
            self._end_recollection(*ended)
        elif not recollection.step():
            self._recollection, request = None, recollection.request
            if recollection.memory.entries:
                self._start(request, recollection)
            elif not request.question.archived:
                self._start(request)
            elif recollection.problem:
                self._finish(request, ErrorCode.INTERNAL, recollection.problem)
            else:
                self._finish(request, ErrorCode.NO_FRAMES, NOTHING_ARCHIVED)

    def _end_recollection(self, code: ErrorCode, message: str) -> None:
        assert self._recollection is not None
        request, self._recollection = self._recollection.request, None
        self._finish(request, code, message)

    def _start(self, request: Request, recollection: Recollection | None = None) -> None:
        if (ended := _ended(request)) is not None:
            self._finish(request, *ended)
            return
        question = request.question
        sentence = self._notice() if recollection is None else recollection.adjustment
        adjustments = (sentence,) if sentence else ()
        if question.image is not None:
            self._search_image(request, recollection, adjustments)
            return
        tokens = question.max_new_tokens or self._max_new_tokens
        prepared = (
            self._prefiller.start(question, tokens)
            if recollection is None
            else self._prefiller.start_from(recollection.memory, question, tokens)
        )
        if prepared is None:
            self._finish(request, ErrorCode.NO_FRAMES, self._no_frames_reason(request))
            return
        memory = self._memory
        has_second_look = memory.config.hierarchical and recollection is None
        answer = Answer(
            model_kind=self._model.kind,
            newest_ns=request.newest_ns,
            adjustments=adjustments,
        )
        self._active = ActiveAnswer(
            request,
            prepared,
            with_memory(answer, prepared),
            pieces=[self._model.kind.label] if request.started else [],
            prefill_tokens=prepared.generation.remaining_tokens,
            recollection=recollection,
            second_look_tokens=int(self._second_look * memory.tokens) if has_second_look else 0,
        )
        self._report_prefill(self._active)
        if not request.started and not question.is_search:
            self._stream(self._model.kind.label)
            request.started = True

    def _search_image(self, request: Request, recollection: Recollection | None, adjustments: tuple[str, ...]) -> None:
        """Answer a search for an image, which takes one pass of the vision tower."""
        scope = request.question.scope
        memory: Memory = self._memory if recollection is None else recollection.memory
        try:
            moments = moments_like(self._model, memory, request.question)
        except UnsearchableImage as error:
            self._finish(request, ErrorCode.INVALID_REQUEST, str(error))
            return
        if not moments:
            self._finish(request, ErrorCode.NO_FRAMES, self._no_frames_reason(request))
            return
        if recollection is not None and recollection.next_look(moments):
            self._recollection = recollection
            return
        first_ns, last_ns = (memory.first_ns, memory.last_ns) if recollection is None else recollection.covered_ns
        found = Answer(
            model_kind=self._model.kind,
            evidence=moments[: request.question.moments],
            covered_since_ns=max(first_ns, scope.since_ns),
            covered_until_ns=min(last_ns, scope.until_ns or last_ns),
            adjustments=adjustments,
            newest_ns=request.newest_ns,
        )
        self._requests.finish(request, found)

    def _no_frames_reason(self, request: Request) -> str:
        question = request.question
        if notice := self._notice():
            return f"nothing matches yet: {notice}; ask again later"
        if self._memory.entries:
            if self._memory.may_contain(question.scope):
                return "no slot in the interval is stored individually; ask about a longer interval"
            if question.scope.near is not None:
                return "nothing in the memory with a known pose matches the cameras, stamps and place asked for"
            return "nothing in the memory matches the cameras and stamps asked for"
        if self._memory.slots_seen:
            return "the memory is empty: everything in it was forgotten"
        if request.newest_ns:
            return (
                "the memory is empty: images were received, but no slot is complete. A slot takes two sampled frames, "
                "or the next image of a slow camera; /diagnostics says which images were dropped and why"
            )
        return "the memory is empty: no image was received; does a camera publish on image?"

    def _continue(self) -> None:
        active = self._active
        assert active is not None
        if (ended := _ended(active.request)) is not None:
            self._finish_active(*ended)
        elif active.probabilities:
            self._decode_token(active)
        elif self._prefiller.prefill_chunk(active.prepared.generation):
            self._report_prefill(active)
        elif active.second_look_tokens:
            self._look_again(active)
        elif active.question.is_search:
            self._finish_search(active)
        else:
            self._decode_token(active)

    def _report_prefill(self, active: ActiveAnswer) -> None:
        done = active.prefill_tokens - active.prepared.generation.remaining_tokens
        active.request.report_prefill(done, active.prefill_tokens)

    def _look_again(self, active: ActiveAnswer) -> None:
        """Start the second look: the details of the most attended entries are appended to the prompt."""
        active.prepared = self._prefiller.look_again(active.prepared, active.second_look_tokens)
        active.second_look_tokens = 0
        active.draft = with_memory(active.draft, active.prepared)

    def _finish_search(self, active: ActiveAnswer) -> None:
        """Prefill the last chunk; the answer is the entries that its last token attends to."""
        generation = active.prepared.generation
        if generation.remaining_tokens:
            self._prefiller.prefill(generation, generation.remaining_tokens)
        if not all(math.isfinite(share) for share in generation.attention):
            raise ModelError("the model computed no finite attention: its weights are damaged or overflow; try float32")
        moments, recollection = moments_of(active.evidence), active.recollection
        if recollection is not None and recollection.next_look(moments):
            self._drop_active()
            self._recollection = recollection
            return
        active.draft = replace(active.draft, evidence=moments[: active.question.moments])
        if active.question.archived and recollection is not None:
            since_ns, until_ns = recollection.covered_ns
            active.draft = replace(active.draft, covered_since_ns=since_ns, covered_until_ns=until_ns)
        self._finish_active()

    def _postpone(self, search: Request) -> None:
        """Put the search being processed back into the queue, so that no question waits for it."""
        self._drop_active()
        self._requests.push_front(search)

    def _decode_token(self, active: ActiveAnswer) -> None:
        try:
            token = next(active.prepared.generation)
        except StopIteration:
            self._finish_active()
            return
        if not active.probabilities:
            evidence, first_token_s = active.evidence[: self._evidence], active.request.age_s
            active.draft = replace(active.draft, evidence=evidence, time_to_first_token_s=first_token_s)
            active.request.report_evidence(evidence)
        active.probabilities.append(token.probability)
        self._stream(token.text)

    def _stream(self, piece: str) -> None:
        assert self._active is not None
        self._active.pieces.append(piece)
        self._active.request.stream(piece)

    def _finish_active(self, code: ErrorCode = ErrorCode.NONE, message: str = "") -> None:
        assert self._active is not None
        request = self._active.request
        answer = self._active.answer(code, message, self._model.calibration)
        self._drop_active()
        self._requests.finish(request, answer)

    def _drop_active(self) -> None:
        self._active = self._recollection = None
        self._prefiller.end_answer()

    def _finish(self, request: Request, code: ErrorCode, message: str) -> None:
        self._requests.finish(request, Answer(code, message, newest_ns=request.newest_ns))

    def _fail(self, request: Request, code: ErrorCode, message: str, details: str = "") -> None:
        self._log.report(code.name, f"{request.question.noun} failed: {message}" + (f"\n{details}" if details else ""))
        self._finish(request, code, message)


def _ended(request: Request) -> tuple[ErrorCode, str] | None:
    """The reason to end a request before its answer is complete; None to continue."""
    if request.cancelled:
        return ErrorCode.CANCELLED, f"the {request.question.noun} was cancelled"
    if request.expired:
        return ErrorCode.TIMEOUT, f"the deadline passed after {request.age_s:.1f} s"
    return None
