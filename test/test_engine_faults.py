"""An engine that fails or is stopped at the worst moment: every question gets a reply, and all memory is freed."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from tiny_engine import CONFIG, SECOND, ask, image, model, running, settled, wait_until, watch

from flash_vstream_ros.engine.answering.question import ErrorCode, Question
from flash_vstream_ros.engine.answering.request import Request
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model

__all__ = ["model"]  # a fixture


def break_worker(engine: Engine) -> None:
    """Make the worker's next step raise an unexpected exception."""

    def defect(*_: object) -> bool:
        raise ZeroDivisionError("a defect")

    assert engine._worker is not None
    engine._worker.apply = defect  # type: ignore[method-assign]
    engine._wake.set()


@pytest.mark.parametrize(
    ("end", "code"),
    [(break_worker, ErrorCode.INTERNAL), (Engine.deactivate, ErrorCode.CANCELLED), (Engine.stop, ErrorCode.CANCELLED)],
    ids=["fails", "is deactivated", "is stopped"],
)
def test_a_question_gets_a_reply_even_if_the_engine_ends_before_it_is_queued(
    model: VisionLanguageModel, end: Callable[[Engine], object], code: ErrorCode
) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 5))
        push = engine._requests.push
        ending = threading.Thread(target=lambda: (end(engine), engine._thread.join(30.0)))

        def end_and_push(request: Request) -> object:
            ending.start()
            ending.join(0.5)  # it ends now, unless it is blocked
            return push(request)

        engine._requests.push = end_and_push  # type: ignore[assignment, method-assign]
        answer = engine.ask(Question("What is there?", max_new_tokens=60_000, deadline_s=60.0)).answer(30.0)
        engine.stop()
        ending.join()
    assert answer.error_code is code


def test_a_failed_engine_frees_its_model_and_decodes_no_frames() -> None:
    loaded: list[weakref.ref] = []
    decoded: list[int] = []

    def load() -> VisionLanguageModel:
        model = load_model("tiny-random", device="cpu", max_pixels=112 * 112)
        loaded.append(weakref.ref(model))
        return model

    def decode() -> np.ndarray:
        decoded.append(1)
        return image(0)

    with running(CONFIG, load) as (engine, warnings):
        watch(engine, range(1, 5))
        break_worker(engine)
        wait_until(lambda: not engine._thread.is_alive())
        assert engine.state is State.FAILED
        assert "ZeroDivisionError: a defect" in ask(engine).error_msg
        for second in range(5, 9):
            engine.offer(Frame("camera", "", second * SECOND, decode))
        gc.collect()
        assert loaded[0]() is None
        assert "flash-vstream-frames_0" not in {thread.name for thread in threading.enumerate()}
        assert not decoded
        counts = engine.status().frames
        assert counts.received == counts.encoded + counts.not_sampled + counts.dropped + counts.pending
    assert len(warnings) == 1


def test_a_panic_of_a_rust_library_fails_the_engine_and_every_question_gets_a_reply() -> None:
    class PanicException(BaseException):
        """Like the exception of pyo3, which does not derive from Exception."""

    def panic(*_: object, **__: object) -> bool:
        raise PanicException("index out of bounds")

    with running(CONFIG, lambda: load_model("tiny-random", device="cpu", max_pixels=112 * 112)) as (engine, _):
        watch(engine, range(1, 5))
        assert engine._worker is not None
        engine._worker.answer = panic  # type: ignore[method-assign]
        answer = engine.ask(Question("What is there?", deadline_s=60.0)).answer(30.0)
        assert answer.error_code is ErrorCode.INTERNAL
        assert "index out of bounds" in answer.error_msg
        wait_until(lambda: not engine._thread.is_alive())
        assert engine.state is State.FAILED


def test_a_command_is_resolved_even_if_reading_its_status_fails(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, _):

        def defect() -> None:
            raise ZeroDivisionError("a defect")

        assert engine._worker is not None
        engine._worker.status = defect  # type: ignore[assignment, method-assign]
        assert engine.submit(MemoryCommands.pause).result(30.0)
        wait_until(lambda: engine.state is State.FAILED)


def test_a_hung_worker_does_not_leave_a_question_unanswered(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flash_vstream_ros.engine.engine.STOP_TIMEOUT_S", 0.1)
    release, hung = threading.Event(), threading.Event()
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 5))
        request = engine.ask(Question("a long story", max_new_tokens=60_000, deadline_s=60.0))
        next(iter(request))
        engine.submit(lambda _: (hung.set(), release.wait(30.0)))
        assert hung.wait(30.0)
        assert not engine.stop()
        assert request.answer(5.0).error_code is ErrorCode.CANCELLED
        release.set()
        wait_until(lambda: not engine._thread.is_alive())
    assert engine.status().questions_failed == 1


def test_a_slow_camera_fills_the_memory(model: VisionLanguageModel) -> None:
    """One image every 5 s at a sampling rate of 1/s: no two are close enough to be paired, so each becomes a slot."""
    with running(CONFIG, lambda: model) as (engine, warnings):
        watch(engine, range(100, 160, 5))
        status = engine.status()
        answer = ask(engine)
        assert status.frames.encoded == 12
        assert not status.frames.drops
        assert status.memory.slots == 12
        assert answer.error_code is ErrorCode.NONE
        assert (answer.covered_since_ns, answer.covered_until_ns) == (100 * SECOND, 155 * SECOND)
        watch(engine, range(156, 160))  # it becomes a fast one
        assert engine.status().memory.slots == 14
        assert settled(engine)
    assert [warning for warning in warnings if "advanced by" in warning] == warnings
    assert len(warnings) == 1
