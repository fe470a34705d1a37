"""The caching prefiller against a plain one: the same answers, whatever fails or changes in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from caching_prefillers import CONFIG, EAGER, ON_DEMAND, Bench, Counted, chunks_of, is_cached, model
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_engine import SECOND, Failing, ask, running, wait_until, watch

from flash_vstream_ros.engine.answering.caching_prefiller import RETRY_S
from flash_vstream_ros.engine.answering.prefix_cache_config import PrefixCacheStatus
from flash_vstream_ros.engine.answering.question import ErrorCode, Question
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.qwen2_vl import Qwen2VL

__all__ = ["model"]  # a fixture


@pytest.mark.parametrize("kind", ["cached", "uncached"])
def test_the_memory_may_change_between_the_chunks_of_a_long_prompt(model: Qwen2VL, kind: str) -> None:
    bench, text = Bench(model, ON_DEMAND), "Who? " * 200
    prefiller = bench.prefiller if kind == "cached" else bench.uncached
    (uncached, expected), slots = bench.asked_uncached(text), bench.slots
    assert uncached is not None
    assert chunks_of(prefiller, uncached) == 0, "it is whole already"
    prefiller.chunk_s = 0.0  # as few tokens as possible

    def change() -> None:
        bench.see(1)
        if bench.slots == slots + 5:
            bench.memory.forget(Scope(until_ns=6 * SECOND))

    reading = prefiller.start(Question(text), 4)
    assert reading is not None
    tokens = reading.generation.remaining_tokens
    assert chunks_of(prefiller, reading, change) == (tokens - 1) // 64 > 15
    assert [(token.id, token.text) for token in reading.generation] == expected
    prefiller.end_answer()
    assert reading.snapshot.entries == uncached.snapshot.entries
    assert list(reading.generation.attention) == pytest.approx(list(uncached.generation.attention), abs=1e-5)
    newest, reply = bench.asked(text)
    assert newest is not None
    assert newest.snapshot.last_ns == bench.memory.last_ns > reading.snapshot.last_ns
    assert reply == bench.asked_uncached(text)[1]


def test_a_question_chunk_takes_about_as_long_as_a_frame_may_wait(model: Qwen2VL) -> None:
    bench = Bench(model, ON_DEMAND)
    bench.prefiller.chunk_s = 0.1
    reading = bench.prefiller.start(Question("Who? " * 400), 4)
    assert reading is not None
    answering: Any = reading.generation
    sizes, read = [], answering.prefill

    def at_2000_tokens_a_second(tokens: int) -> None:
        before = answering.remaining_tokens
        read(tokens)
        sizes.append(before - answering.remaining_tokens)
        bench.prefix.now += sizes[-1] / 2000

    answering.prefill = at_2000_tokens_a_second
    chunks_of(bench.prefiller, reading)
    assert sizes[0] == 64
    assert len(sizes) > 8
    assert set(sizes[1:]) <= {199, 200}
    assert 0 < answering.remaining_tokens <= 200


ERRORS = [torch.OutOfMemoryError("no room"), ZeroDivisionError("a defect")]


@pytest.mark.parametrize("at", ["set_snapshot", "prefill"])
@pytest.mark.parametrize("error", ERRORS, ids=["no room", "defect"])
def test_a_failed_background_prefill_is_reported_and_counted_and_questions_are_uncached(
    model: Qwen2VL, at: str, error: Exception
) -> None:
    bench = Bench(model, EAGER)
    bench.prefix.error, bench.prefix.at = error, at
    while not bench.prefiller.status.failures:
        bench.prefiller.background_prefill()
    wait_s = bench.prefiller.background_prefill()
    assert bench.prefiller.status == PrefixCacheStatus(failures=1)
    assert len(bench.log_lines) == 1
    assert str(error) in bench.log_lines[0]
    assert "prefix cache off for 30 s" in bench.log_lines[0]
    assert wait_s == pytest.approx(RETRY_S)
    reading, tokens = bench.asked()
    assert reading is not None
    assert reading.cached_tokens == 0
    assert tokens == bench.asked_uncached()[1]
    bench.prefix.error = None
    bench.prefix.now += RETRY_S
    bench.warm_up()
    reading, again = bench.asked()
    assert reading is not None
    assert reading.cached_tokens > 0
    assert again == tokens


def test_a_question_that_does_not_fit_the_cache_is_answered_uncached(model: Qwen2VL) -> None:
    bench = Bench(model, ON_DEMAND)
    bench.prefix.error, bench.prefix.at = ERRORS[0], "set_snapshot"
    reading, tokens = bench.asked()
    assert (reading and reading.cached_tokens, tokens) == (0, bench.asked_uncached()[1])
    assert bench.prefiller.status.failures == 1


def test_the_cache_is_freed_when_frames_or_answers_need_memory(model: Qwen2VL) -> None:
    no_room = torch.OutOfMemoryError("no room")

    class Short(Failing):
        """Has a prefix cache; runs out of memory once, at a slot."""

        def __getattr__(self, name: str) -> object:
            return self._model.prefix_cache if name == "prefix_cache" else super().__getattr__(name)

    short = Short(model, "nothing", no_room)
    with running(CONFIG, lambda: short) as (engine, _):  # type: ignore[arg-type, return-value]
        watch(engine, range(1, 9))
        wait_until(lambda: is_cached(engine))
        short._call = "encode_slots"
        watch(engine, range(9, 11))
        assert dict(engine.status().frames.drops) == {"out_of_memory": 2}
        wait_until(lambda: engine.status().prefix_cache.bytes == 0)
        assert ask(engine).cached_tokens == 0


def test_an_answer_that_does_not_fit_after_the_cached_prompt_is_uncached(model: Qwen2VL) -> None:
    prefix = Counted(model.prefix_cache())

    class Short(Failing):
        """Has a prefix cache; runs out of memory at an answer while the cache exists."""

        def __getattr__(self, name: str) -> object:
            return (lambda: prefix) if name == "prefix_cache" else super().__getattr__(name)

    with running(CONFIG, lambda: Short(model, "nothing", ERRORS[0])) as (engine, _):  # type: ignore[arg-type, return-value]
        watch(engine, range(1, 9))
        wait_until(lambda: is_cached(engine))
        prefix.error, prefix.at = ERRORS[0], "answer"
        request = engine.ask(Question("Where?"))
        pieces = list(request)
        answer = request.answer(30.0)
        assert (answer.error_code, answer.cached_tokens) == (ErrorCode.NONE, 0)
        assert "".join(pieces).rstrip() == answer.text
        assert answer.text.count("[untrained]") == 1
        wait_until(lambda: engine.status().prefix_cache.bytes == 0)


def test_a_memory_too_large_for_the_cache_stays_uncached_and_is_reported(model: Qwen2VL) -> None:
    bench = Bench(model, replace(EAGER, max_mib=1), slots=120, csm_slots=120, dam_slots=120)
    bench.warm_up()
    assert bench.prefiller.status == PrefixCacheStatus()
    assert "prefix_cache.max_mib allows 1" in bench.log_lines[0]
    reading, tokens = bench.asked()
    assert (reading and reading.cached_tokens, tokens) == (0, bench.asked_uncached()[1])
    bench.prefiller.config = EAGER
    bench.warm_up()
    assert 1 << 20 < bench.prefiller.status.bytes <= EAGER.max_mib << 20
    bench.prefiller.config = replace(EAGER, max_mib=1)
    bench.warm_up()
    assert bench.prefiller.status == PrefixCacheStatus()


def test_the_stable_order_can_be_switched_at_any_time_and_evidence_follows_it(model: Qwen2VL) -> None:
    bench = Bench(model, EAGER)
    bench.warm_up()
    bench.prefiller.config = replace(EAGER, stable_order=True)
    reused = []
    for _ in range(8):
        bench.see(1)
        reading, _ = bench.asked()
        assert reading is not None
        reused.append(reading.cached_tokens)
        snapshot = bench.memory.snapshot()
        assert sorted(map(repr, reading.snapshot.entries)) == sorted(map(repr, snapshot.entries))
        assert len(reading.generation.attention) == len(snapshot.entries)
    assert max(reused) > snapshot.dam.shape[1]
    assert reading.snapshot.entries != snapshot.entries
    bench.prefiller.config = EAGER
    reading, tokens = bench.asked()
    uncached, expected = bench.asked_uncached()
    assert tokens == expected
    assert reading is not None
    assert reading.snapshot.entries == snapshot.entries
    assert uncached is not None
    assert list(reading.generation.attention) == pytest.approx(list(uncached.generation.attention), abs=1e-5)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("see"), st.integers(1, 3)),
        st.tuples(st.just("read ahead"), st.integers(1, 5)),
        st.tuples(st.just("forget"), st.integers(0, 24)),
        st.tuples(st.just("resize"), st.integers(2, 6)),
        st.tuples(st.just("ask"), st.integers(0, 5)),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_any_sequence_of_events_gives_the_answers_of_the_uncached_prefiller(
    model: Qwen2VL, steps: list[tuple[str, int]]
) -> None:
    bench = Bench(model, replace(EAGER, max_chunk_tokens=60), slots=3, horizon_slots=6)
    for step, number in [*steps, ("ask", 0)]:
        if step == "see":
            bench.see(number)
        elif step == "read ahead":
            for _ in range(number):
                bench.prefiller.background_prefill()
        elif step == "forget":
            bench.memory.forget(Scope(since_ns=2 * number * SECOND, until_ns=2 * (number + 3) * SECOND))
            bench.prefiller.note_memory_change()
        elif step == "resize":
            bench.memory.resize(replace(bench.memory.config, csm_slots=number, dam_slots=min(3, number)))
        else:
            bounds = {"since_ns": number * 2 * SECOND} if number % 2 else {}
            text = "Who was there? " * number
            (cached, tokens), (uncached, expected) = bench.asked(text, **bounds), bench.asked_uncached(text, **bounds)
            assert tokens == expected
            assert (cached is None) == (uncached is None)
            if cached and uncached:
                assert cached.snapshot.entries == uncached.snapshot.entries
                assert cached.memory_tokens == uncached.memory_tokens
                assert list(cached.generation.attention) == pytest.approx(list(uncached.generation.attention), abs=1e-5)
                assert cached.lag_slots == 0
