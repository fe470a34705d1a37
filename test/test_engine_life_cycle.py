"""The engine's states: loading, refusing, deactivating, stopping."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace

from tiny_engine import CONFIG, SECOND, ask, model, running, wait_until, watch

from flash_vstream_ros.engine.answering.question import ErrorCode, Question
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.hooks import EngineHooks
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.models.interface import ModelError, VisionLanguageModel
from flash_vstream_ros.models.load import load_model

__all__ = ["model"]  # a fixture


def test_a_model_that_fails_to_load_is_reported_with_the_reason() -> None:
    def load() -> VisionLanguageModel:
        raise ModelError("no config.json in /nowhere; give a folder that has one")

    with running(CONFIG, load) as (engine, warnings):
        answer = ask(engine)
        assert engine.status().state is State.FAILED
    assert answer.error_code is ErrorCode.NOT_READY
    assert "/nowhere" in answer.error_msg
    assert warnings == ["no config.json in /nowhere; give a folder that has one"]


def test_a_question_in_any_state_but_ready_is_refused_with_advice(model: VisionLanguageModel) -> None:
    release = threading.Event()

    def load() -> VisionLanguageModel:
        assert release.wait(30.0)
        return model

    def quiet(_: str) -> None:
        pass

    engine = Engine(CONFIG, load, EngineHooks(quiet, quiet, lambda state: f" [{state.name}]"))
    messages = {}
    for change, reached in (
        (None, State.UNCONFIGURED),
        (engine.start, State.LOADING),
        (release.set, State.INACTIVE),
        (engine.activate, State.READY),
        (engine.deactivate, State.INACTIVE),
        (engine.stop, State.FINALIZED),
    ):
        if change is not None:
            change()
        wait_until(lambda reached=reached: engine.state is reached)
        answer = ask(engine)
        if reached is State.READY:
            assert answer.error_code is ErrorCode.NO_FRAMES
        else:
            assert answer.error_code is ErrorCode.NOT_READY
            assert answer.error_msg.endswith(f"[{reached.name}]")
            messages[reached] = answer.error_msg
    assert len(set(messages.values())) == len(messages) == 4


def test_deactivating_cancels_the_running_answer_and_keeps_the_memory(model: VisionLanguageModel) -> None:
    with running(replace(CONFIG, max_new_tokens=60_000), lambda: model) as (engine, _):
        watch(engine, range(1, 9))
        requests = [engine.ask(Question("a long story")) for _ in range(2)]
        next(iter(requests[0]))
        engine.deactivate()
        assert {request.answer(30.0).error_code for request in requests} == {ErrorCode.CANCELLED}
        assert engine.status().memory.slots == 4
        engine.activate()
        watch(engine, range(9, 13))
        answer = ask(engine, max_new_tokens=2)
    assert (answer.covered_since_ns, answer.covered_until_ns) == (SECOND, 12 * SECOND)


def test_stopping_while_the_model_loads_does_not_wait_for_it(model: VisionLanguageModel) -> None:
    release = threading.Event()
    log_lines: list[str] = []

    def load() -> VisionLanguageModel:
        assert release.wait(60.0)
        return model

    engine = Engine(CONFIG, load, EngineHooks(log_lines.append, log_lines.append))
    engine.start()
    waiter = threading.Thread(target=lambda: log_lines.append(f"loaded: {engine.wait_until_loaded()}"))
    waiter.start()
    assert not engine.stop()
    waiter.join(30.0)
    release.set()
    wait_until(engine.stop)
    assert log_lines == ["loaded: False"]
    assert engine.state is State.FINALIZED


def test_an_engine_stopped_before_its_start_loads_no_model() -> None:
    def load() -> VisionLanguageModel:
        raise AssertionError("loaded")

    engine = Engine(CONFIG, load, EngineHooks(print, print))
    assert engine.stop()
    engine.start()
    assert not engine.wait_until_loaded()
    assert engine.status().last_error == ""


def test_model_and_memory_are_freed_when_the_worker_ends() -> None:
    held: list[weakref.ref] = []

    def load() -> VisionLanguageModel:
        loaded = load_model("tiny-random", device="cpu", max_pixels=112 * 112)
        held.append(weakref.ref(loaded))
        return loaded

    with running(CONFIG, load) as (engine, _):
        watch(engine, range(1, 5))
        assert ask(engine).error_code is ErrorCode.NONE
        assert gc.get_freeze_count() > 0
        assert engine.stop()
        gc.collect()
        assert held[0]() is None
