"""The prefix cache in the engine: background prefill changes nothing but the time to the first token."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from caching_prefillers import CONFIG, EAGER, ON_DEMAND, UNCACHED, Bench, assert_same, is_cached, model
from tiny_engine import SECOND, Failing, ask, image, running, settled, wait_until, watch

from flash_vstream_ros.engine.answering.dialogue import Dialogue
from flash_vstream_ros.engine.answering.prefix_cache_config import PrefixCacheStatus
from flash_vstream_ros.engine.answering.question import Answer, ErrorCode, Question
from flash_vstream_ros.engine.answering.request import Request
from flash_vstream_ros.engine.answering.request_queue import RequestQueue
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.qwen2_vl import Qwen2VL

__all__ = ["model"]  # a fixture


def test_an_idle_engine_prefills_and_its_answers_equal_uncached_ones(model: Qwen2VL) -> None:
    answers: list[list[Answer]] = []
    for cached in (UNCACHED, EAGER):
        with running(replace(CONFIG, prefix_cache=cached), lambda: model) as (engine, warnings):
            answers.append([])
            for begin in (10, 20, 30):
                watch(engine, range(begin, begin + 10))
                if cached is EAGER:
                    wait_until(lambda: is_cached(engine))
                answers[-1] += [ask(engine, text) for text in ("What is there?", "Who?", "x" * 900, "Who?")]
            status = engine.status()
        assert not warnings
        assert status.questions_answered == 12
        assert status.questions_cached == (12 if cached is EAGER else 0)
        assert (status.prefix_cache.bytes > 0) == (cached is EAGER)
        assert 0 < status.first_token_s[0] <= status.answer_s[1]
    for uncached, cached in zip(*answers, strict=True):
        assert uncached.cached_tokens == 0 < cached.memory_tokens < cached.cached_tokens
        assert_same(uncached, cached)


def test_a_question_reuses_the_prefix_that_the_one_before_prefilled(model: Qwen2VL) -> None:
    with running(replace(CONFIG, prefix_cache=ON_DEMAND), lambda: model) as (engine, _):
        watch(engine, range(1, 9))
        first, second = ask(engine, "Who?"), ask(engine, "Who?")
        watch(engine, range(9, 11))
        third = ask(engine, "Who?")
    assert first.cached_tokens == 0 < second.cached_tokens
    assert_same(first, second)
    assert third.cached_tokens < second.cached_tokens
    assert third.covered_until_ns == 10 * SECOND


def test_a_scoped_question_is_uncached_unless_its_scope_holds_all_slots(model: Qwen2VL) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 11))
        wait_until(lambda: is_cached(engine))
        part = ask(engine, scope=Scope(since_ns=5 * SECOND))
        assert part.cached_tokens == 0
        assert part.covered_since_ns > SECOND
        whole = ask(engine)
        same = ask(engine, scope=Scope(cameras=("camera",), since_ns=SECOND, until_ns=10 * SECOND))
        assert min(whole.cached_tokens, same.cached_tokens) > 0
        assert_same(whole, same)


def buffers_of(engine: Engine) -> list[torch.Tensor]:
    """The buffers of keys and values."""
    return engine.submit(lambda commands: commands._prefiller._prefix_cache._cache.buffers).result(30.0)


@pytest.mark.parametrize(
    "forget",
    [
        MemoryCommands.reset,
        lambda commands: commands.forget(Scope((), 2 * SECOND, 5 * SECOND)),
        lambda commands: commands.forget(Scope(("camera",))),
    ],
    ids=["reset", "an interval", "a camera"],
)
def test_forgotten_states_are_overwritten_before_the_command_returns(
    model: Qwen2VL, forget: Callable[[MemoryCommands], Any]
) -> None:
    with running(replace(CONFIG, prefix_cache=ON_DEMAND), lambda: model) as (engine, _):
        watch(engine, range(1, 21))
        ask(engine)
        buffers = buffers_of(engine)
        assert any(buffer.any() for buffer in buffers)
        engine.submit(forget).result(30.0)
        assert engine.status().prefix_cache == PrefixCacheStatus()
        assert not any(buffer.any() for buffer in buffers)
        watch(engine, range(21, 25))
        again = ask(engine)
    assert again.error_code is ErrorCode.NONE
    assert again.cached_tokens == 0


def test_forgetting_what_a_running_answer_uses_clears_its_states(model: Qwen2VL) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 9))
        wait_until(lambda: is_cached(engine))
        buffers = buffers_of(engine)
        request = engine.ask(Question("a long story", max_new_tokens=60_000, deadline_s=60.0))
        next(iter(request))
        engine.submit(MemoryCommands.reset).result(30.0)
        assert request.answer(30.0).error_code is ErrorCode.CANCELLED
        assert not any(buffer.any() for buffer in buffers)


@pytest.mark.parametrize(
    "change",
    [
        {"memory": FlashMemoryConfig(csm_slots=4, dam_slots=2)},
        {"memory": FlashMemoryConfig(csm_slots=9, dam_slots=5)},
        {"instruction": "Say it in one word."},
        {"prefix_cache": replace(EAGER, max_mib=0)},
    ],
    ids=["smaller", "larger", "instruction", "off"],
)
def test_answers_follow_a_change_while_the_memory_is_cached(model: Qwen2VL, change: dict[str, Any]) -> None:
    answers = []
    for cached in (EAGER, UNCACHED):
        with running(replace(CONFIG, prefix_cache=cached), lambda: model) as (engine, _):
            watch(engine, range(1, 21))
            if cached is EAGER:
                wait_until(lambda: is_cached(engine))
            engine.reconfigure(replace(CONFIG, **{"prefix_cache": cached, **change}))
            engine.submit(lambda _: None).result(30.0)  # the worker may have been about to start a question
            answers.append(ask(engine))
            if change.get("prefix_cache") and cached is EAGER:
                wait_until(lambda: engine.status().prefix_cache.bytes == 0)
    assert_same(*answers)


def test_a_frame_or_a_question_waits_for_one_chunk_only(model: Qwen2VL) -> None:
    with running(replace(CONFIG, prefix_cache=replace(EAGER, max_chunk_tokens=1)), lambda: model) as (engine, _):
        watch(engine, range(1, 21))
        wait_until(lambda: engine.status().prefix_cache.tokens > 5)
        watch(engine, range(21, 22))  # the first frame of a slot changes nothing
        assert engine.status().frames.encoded == 21
        assert not is_cached(engine), "the frame waited for all of it"
        answer = ask(engine)
        assert 5 < answer.cached_tokens < answer.memory_tokens
        wait_until(lambda: is_cached(engine))


def test_an_inactive_engine_does_not_prefill_and_a_stopped_one_frees_the_cache(model: Qwen2VL) -> None:
    with running(replace(CONFIG, prefix_cache=ON_DEMAND), lambda: model) as (engine, _):
        watch(engine, range(1, 9))
        engine.deactivate()
        engine.reconfigure(CONFIG)
        engine.submit(lambda _: None).result(30.0)
        watch(engine, range(9, 12))
        assert engine.status().prefix_cache == PrefixCacheStatus()
        engine.activate()
        wait_until(lambda: is_cached(engine))
    assert engine.status().prefix_cache == PrefixCacheStatus()


def test_alternating_cameras_are_prefilled_as_well(model: Qwen2VL) -> None:
    answers = []
    for cached in (UNCACHED, EAGER):
        with running(replace(CONFIG, cameras=("front", "rear"), prefix_cache=cached), lambda: model) as (engine, _):
            for second in range(1, 9):
                watch(engine, range(second, second + 1), "front")
                watch(engine, range(second, second + 1), "rear")
            if cached is EAGER:
                wait_until(lambda: is_cached(engine))
            answers.append(ask(engine))
            assert ask(engine, scope=Scope(cameras=("front",))).cached_tokens == 0
    assert_same(*answers)


def test_frames_are_ingested_while_the_prompt_of_a_question_is_prefilled(model: Qwen2VL) -> None:
    begun, offered, slots = threading.Event(), threading.Event(), []

    class Slow(Failing):
        """A prefix cache whose prefill is slow, and that records the size of the memory meanwhile."""

        def __getattr__(self, name: str) -> object:
            return self._answer if name == "answer" else super().__getattr__(name)

        def _answer(self, *question: Any) -> Any:
            answering: Any = self._model.answer(*question)
            read = answering.prefill

            def slowly(tokens: int) -> None:
                if not answering.remaining_tokens:
                    return
                slots.append(engine.status().memory.slots)
                begun.set()
                assert offered.wait(30.0)
                time.sleep(0.02)
                read(tokens)

            answering.prefill = slowly
            return answering

    def show(engine: Engine, stamps_ms: range) -> None:
        for stamp_ms in stamps_ms:
            engine.offer(Frame("camera", "", stamp_ms * SECOND // 1000, lambda stamp_ms=stamp_ms: image(stamp_ms)))
            wait_until(lambda: settled(engine))

    config = replace(CONFIG, sample_fps=500.0)  # frames may wait for a millisecond
    slow = Slow(model, "nothing", RuntimeError())
    with running(config, lambda: slow) as (engine, _):  # type: ignore[arg-type, return-value]
        show(engine, range(2, 18, 2))
        request = engine.ask(Question("Who? " * 200))
        assert begun.wait(30.0)
        offered.set()
        show(engine, range(18, 22, 2))
        answer = request.answer(30.0)
    assert (slots[0], slots[-1]) == (4, 5)
    assert (answer.error_code, answer.covered_until_ns) == (ErrorCode.NONE, 16 * SECOND // 1000)


def test_a_question_that_is_cancelled_while_its_prompt_is_prefilled_generates_nothing(model: Qwen2VL) -> None:
    bench, requests = Bench(model, ON_DEMAND), RequestQueue(1)
    bench.prefiller.chunk_s = 0.0
    log = ThrottledLog(bench.log_lines.append)
    dialogue = Dialogue(Context(model, bench.memory, log), EngineConfig(max_new_tokens=4), bench.prefiller, requests)
    request = Request(Question("Who? " * 200), 60.0)
    requests.push(request)
    for _ in range(6):  # start the question, and prefill its prompt
        assert dialogue.step()
    assert bench.prefiller.status.tokens > 0
    request.cancel()
    assert dialogue.step()
    assert not dialogue.step()
    assert (request.answer(0.0).error_code, request.answer(0.0).text) == (ErrorCode.CANCELLED, "[untrained]")
    assert bench.asked("Who?")[1] == bench.asked_uncached("Who?")[1]
    assert not bench.log_lines


def test_answers_under_concurrent_questions_and_frames_equal_uncached_ones(model: Qwen2VL) -> None:
    """However much was prefilled by then, an answer equals that of an uncached engine with the same frames."""
    with running(replace(CONFIG, question_queue=64), lambda: model) as (engine, _):
        watch(engine, range(1, 3))
        answers: list[Answer] = []
        done = threading.Event()

        def ask_on() -> None:
            while not done.is_set():
                answers.append(ask(engine, "Where?"))

        askers = [threading.Thread(target=ask_on) for _ in range(3)]
        for asker in askers:
            asker.start()
        watch(engine, range(3, 31))
        done.set()
        for asker in askers:
            asker.join()
    assert {answer.error_code for answer in answers} == {ErrorCode.NONE}
    assert any(answer.cached_tokens for answer in answers)
    with running(replace(CONFIG, prefix_cache=UNCACHED), lambda: model) as (engine, _):
        expected = {}
        for second in range(1, 31):
            engine.offer(Frame("camera", "camera_optical", second * SECOND, lambda second=second: image(second)))
            wait_until(lambda: settled(engine))
            if second % 2 == 0:
                expected[second * SECOND] = ask(engine, "Where?")
    for answer in answers:
        uncached = expected[answer.covered_until_ns]
        assert_same(replace(uncached, newest_ns=answer.newest_ns), answer)


def test_a_model_without_a_prefix_cache_prefills_every_prompt(model: Qwen2VL) -> None:
    plain: VisionLanguageModel = Failing(model, "nothing", RuntimeError())  # type: ignore[assignment]
    with running(CONFIG, lambda: plain) as (engine, warnings):
        watch(engine, range(1, 9))
        assert [ask(engine).cached_tokens for _ in range(2)] == [0, 0]
        assert engine.status().prefix_cache == PrefixCacheStatus()
    assert not warnings
