"""The warm-up at configure runs the real model, leaves nothing behind, and an error in it costs one log line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_engine import settled, wait_until, watch

from flash_vstream_ros.engine.answering.prefix_cache_config import PrefixCacheConfig
from flash_vstream_ros.engine.answering.question import ErrorCode, Question
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.hooks import EngineHooks
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model

CONFIG = EngineConfig(memory=FlashMemoryConfig(csm_slots=6, dam_slots=3), warm_up=True)
Model = VisionLanguageModel


@pytest.fixture
def model() -> Model:
    return load_model("tiny-random", device="cpu", max_pixels=112 * 112)


@contextmanager
def running(config: EngineConfig, model: Model) -> Iterator[tuple[Engine, list[str], list[str]]]:
    infos: list[str] = []
    warnings: list[str] = []
    engine = Engine(config, lambda: model, EngineHooks(infos.append, warnings.append))
    engine.start()
    engine.activate()
    try:
        engine.wait_until_loaded()
        yield engine, infos, warnings
    finally:
        engine.stop()


def counting(work: Callable[..., Any], calls: list[str], name: str) -> Callable[..., Any]:
    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        return work(*arguments, **named)

    return counted


@pytest.mark.parametrize("policy", ["flash", "recent", "uniform"])
def test_the_model_has_encoded_and_answered_before_ready_and_the_memory_is_empty(model, policy: str) -> None:
    calls: list[str] = []
    model.encode = counting(model.encode, calls, "encode")  # type: ignore[method-assign]
    language: Any = model
    text_model = language.network.model.language_model
    text_model.register_forward_hook(lambda *_: calls.append("forward"))
    with running(replace(CONFIG, policy=policy, max_new_tokens=4), model) as (engine, infos, warnings):
        assert [sentence.split(" took ")[0] for sentence in infos[:1]] == ["warm-up"]
        assert infos[1].startswith("ready")
        assert {"encode", "forward"} <= set(calls)
        status = engine.status()
        assert (status.memory.slots, status.memory.entries, status.memory.first_ns) == (0, 0, 0)
        assert status.prefix_cache.bytes == status.prefix_cache.tokens == status.prefix_cache.failures == 0
        assert (status.questions_answered, status.frames.encoded, status.frames.received) == (0, 0, 0)
        assert engine.ask(Question("What was there?")).answer().error_code is ErrorCode.NO_FRAMES
        assert not warnings


def test_the_first_question_is_prefilled_in_as_many_chunks_as_the_others(model) -> None:
    passes: list[int] = []
    language: Any = model
    config = replace(CONFIG, max_new_tokens=1, prefix_cache=PrefixCacheConfig(max_mib=0))
    with running(config, model) as (engine, _, _):
        watch(engine, range(1, 7))
        wait_until(lambda: settled(engine))
        language.network.model.language_model.register_forward_hook(lambda *_: passes.append(1))
        steps = []
        for _ in range(3):
            passes.clear()
            assert engine.ask(Question("Where is the red ball?")).answer().error_code is ErrorCode.NONE
            steps.append(len(passes))
    assert len(set(steps)) == 1


def test_the_warm_up_can_be_switched_off(model) -> None:
    calls: list[str] = []
    model.encode = counting(model.encode, calls, "encode")  # type: ignore[method-assign]
    with running(replace(CONFIG, warm_up=False), model) as (_, infos, _):
        assert infos[0].startswith("ready")
        assert not calls


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no room"), RuntimeError("a broken kernel")])
def test_a_failed_warm_up_is_reported_and_counted_and_the_engine_is_ready(model, error: Exception) -> None:
    whole = model.encode

    def failing(*_: Any) -> Any:
        model.encode = whole  # type: ignore[method-assign]
        raise error

    model.encode = failing  # type: ignore[method-assign]
    with running(CONFIG, model) as (engine, infos, warnings):
        assert engine.status().state is State.READY
        assert [sentence for sentence in infos if "warm-up took" in sentence] == []
        assert len(warnings) == 1
        assert f"{type(error).__name__}: {error}" in warnings[0]
        assert engine.status().last_error == warnings[0]
        assert engine.status().prefix_cache.failures == 1


def test_stopping_does_not_wait_for_the_warm_up(model) -> None:
    engine = Engine(CONFIG, lambda: model, EngineHooks(lambda _: None, lambda _: None))
    whole, calls = model.encode, []

    def stopped_meanwhile(*arguments: Any) -> Any:
        calls.append("encode")
        engine._stop.set()
        return whole(*arguments)

    model.encode = stopped_meanwhile  # type: ignore[method-assign]
    engine.start()
    engine._thread.join(30.0)
    assert calls == ["encode"]
    assert not engine._thread.is_alive()
    assert engine.status().prefix_cache.failures == 0
    engine.stop()
