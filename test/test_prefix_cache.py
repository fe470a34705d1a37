"""The prefix cache gives the answers, the probabilities and the attention of the uncached prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_slots import (
    QUESTIONS,
    SECOND,
    assert_equal_answers,
    features_of,
    loaded,
    memory_of,
    prefill_all,
    slot_of,
    tiny,
)
from torch import Tensor

from flash_vstream_ros.memory.am_rope import MergedGrid, visual_ids
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import MemorySnapshot
from flash_vstream_ros.models.decoding.greedy import GreedyGeneration, Prefill
from flash_vstream_ros.models.decoding.prefix_cache import reordered, stable_order
from flash_vstream_ros.models.prompt import INSTRUCTION
from flash_vstream_ros.models.qwen2_vl import Qwen2VL

__all__ = ["tiny"]  # fixtures


@pytest.fixture(scope="module", params=["tiny-random", "household"])
def model(request: pytest.FixtureRequest) -> Iterator[Qwen2VL]:
    model = loaded(request.param)
    yield model
    model.instruction = INSTRUCTION


@pytest.fixture
def features(model: Qwen2VL) -> list[tuple[Tensor, Tensor]]:
    return features_of(model)


@pytest.mark.parametrize("chunk", [3, 64, 10_000])
def test_an_answer_after_chunked_prefill_equals_the_uncached_one(model, features, chunk: int) -> None:
    snapshot = memory_of(model, features, 9).snapshot()
    prefix = model.prefix_cache()
    assert not prefix.ready
    chunks = prefill_all(model, prefix, snapshot, chunk)
    assert chunks == -(-prefix.cached_tokens // chunk)
    cached, reused = prefix.answer("Where is it?", 12)
    assert (
        reused
        == prefix.cached_tokens
        == len(model._prompt.before) + model.tokens(snapshot) + len(model._prompt.leading)
    )
    assert cached._prefill.embeds.shape[1] == len(model._prompt.after("Where is it?")) - len(model._prompt.leading)
    assert_equal_answers(model.answer(snapshot, "Where is it?", 12), cached)


@pytest.mark.parametrize("chunk", [3, 64, 10_000])
@pytest.mark.parametrize("shared", [False, True])
def test_a_prompt_prefilled_in_chunks_equals_one_prefilled_at_once(model, features, chunk: int, shared: bool) -> None:
    snapshot = memory_of(model, features, 9).snapshot()
    prefix = model.prefix_cache()
    prefix.set_snapshot(snapshot)
    prefix.prefill(20)
    answer = prefix.answer("Where is it?", 12)[0] if shared else model.answer(snapshot, "Where is it?", 12)
    before, chunks = answer.remaining_tokens, 0
    while answer.remaining_tokens:
        answer.prefill(chunk)
        chunks += 1
    assert chunks == -(-before // chunk)
    assert_equal_answers(model.answer(snapshot, "Where is it?", 12), answer)
    prefix.end_answer()
    assert prefix.ready is shared


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_one_after_another_do_not_see_each_other(model, features, question: str) -> None:
    snapshot = memory_of(model, features, 7).snapshot()
    prefix = model.prefix_cache()
    prefill_all(model, prefix, snapshot)
    for text in ("What did you see?", question, "What did you see?"):
        cached, reused = prefix.answer(text, 6)
        assert reused >= prefix.cached_tokens - 3  # the last tokens may merge with the question
        assert_equal_answers(model.answer(snapshot, text, 6), cached)
        prefix.end_answer()
        assert prefix.remaining_tokens >= 0


def test_an_answer_stopped_early_or_never_started_leaves_no_states(model, features) -> None:
    snapshot = memory_of(model, features, 7).snapshot()
    prefix = model.prefix_cache()
    prefill_all(model, prefix, snapshot)
    prefix.answer("Never begun?", 6)
    prefix.end_answer()
    answer, _ = prefix.answer("Cut short?", 6)
    next(answer)
    prefix.end_answer()
    assert prefix.ready
    cached, _ = prefix.answer("Where?", 6)
    assert_equal_answers(model.answer(snapshot, "Where?", 6), cached)


@pytest.mark.parametrize("read", [0, 1, 40])
def test_a_question_prefills_the_remaining_tokens_and_the_next_reuses_them(model, features, read: int) -> None:
    snapshot = memory_of(model, features, 7).snapshot()
    prefix = model.prefix_cache()
    prefix.set_snapshot(snapshot)
    if read:
        prefix.prefill(read)
    answer, reused = prefix.answer("Where?", 6)
    assert reused == read
    assert_equal_answers(model.answer(snapshot, "Where?", 6), answer)
    prefix.end_answer()
    assert prefix.ready


def test_the_memory_stays_cached_when_the_instruction_changes(model, features) -> None:
    memory = memory_of(model, features, 7)
    snapshot, prefix = memory.snapshot(), model.prefix_cache()
    prefill_all(model, prefix, snapshot)
    seen = len(model._prompt.before) + model.tokens(snapshot)
    for instruction in ("Answer in one word.", "", INSTRUCTION + " Be brief.", INSTRUCTION):
        model.instruction = instruction
        answer, reused = prefix.answer("Where?", 4)
        assert seen <= reused
        assert_equal_answers(model.answer(snapshot, "Where?", 4), answer)
        prefix.end_answer()
        prefix.update_instruction()
        assert seen <= prefix.cached_tokens
        prefix.prefill(10_000)
        assert prefix.ready
        answer, reused = prefix.answer("Where?", 4)
        assert reused == prefix.cached_tokens
        assert_equal_answers(model.answer(snapshot, "Where?", 4), answer)
        prefix.end_answer()


def test_equal_leading_tokens_stay_cached(model, features) -> None:
    """While a memory is neither full nor scaled, a further slot changes only the end of DAM."""
    memory = FlashMemory(FlashMemoryConfig(csm_slots=9, dam_slots=9, horizon_slots=0))
    prefix = model.prefix_cache()
    for index in range(4):
        memory.insert(slot_of(model, features, index))
        snapshot = memory.snapshot()
        prefix.set_snapshot(snapshot)
        detail = snapshot.dam.shape[1]
        assert prefix.cached_tokens == (len(model._prompt.before) + index * detail if index else 0)
        prefix.prefill(10_000)
        answer, _ = prefix.answer("Where?", 4)
        assert_equal_answers(model.answer(snapshot, "Where?", 4), answer)
        prefix.end_answer()


def uncached_with(model: Qwen2VL, snapshot: MemorySnapshot, newer: MemorySnapshot, question: str) -> Prefill:
    """The prompt [text, DAM, CSM, newer DAM, text] built at once."""
    bare = model.answer(snapshot, question, 1)._prefill
    at = bare.visual_start + model.tokens(snapshot)
    rows, columns = (side // 2 for side in snapshot.grid)
    ids = visual_ids(
        newer.dam_times,
        newer.csm_times,
        MergedGrid(rows, columns),
        MergedGrid(rows // 2, columns // 2),
        bare.visual_start,
    )
    return dataclasses.replace(
        bare,
        embeds=torch.cat([bare.embeds[:, :at], newer.dam.flatten(0, 1)[None], bare.embeds[:, at:]], dim=1),
        ids=torch.cat([bare.ids[..., :at], ids[:, None], bare.ids[..., at:]], dim=2),
        entry_tokens=bare.entry_tokens + (newer.dam.shape[1],) * len(newer.dam),
    )


def test_newer_slots_have_the_positions_they_would_have_in_one_prompt(model, features) -> None:
    memory = memory_of(model, features, 7)
    snapshot, clock, prefix = memory.snapshot(), memory.clock, model.prefix_cache()
    prefill_all(model, prefix, snapshot)
    seen = prefix.cached_tokens
    for index in (7, 8):
        memory.insert(slot_of(model, features, index))
        newer = memory.snapshot_after(clock, 1)
        answer, reused = prefix.answer("What is it now?", 6, newer)
        assert reused == len(model._prompt.before) + model.tokens(snapshot)
        expected = GreedyGeneration(
            model.network, uncached_with(model, snapshot, newer, "What is it now?"), model._vocabulary, 6
        )
        assert_equal_answers(expected, answer)
        assert len(answer.attention) == len(snapshot.entries) + len(newer.entries)
        prefix.end_answer()
    assert prefix.cached_tokens < seen
    answer, _ = prefix.answer("And before?", 6)
    assert_equal_answers(model.answer(snapshot, "And before?", 6), answer)


def test_stable_order_keeps_most_tokens_cached_and_answers_equal_an_uncached_prompt_in_that_order(
    model, features
) -> None:
    memory = FlashMemory(FlashMemoryConfig(csm_slots=5, dam_slots=3, horizon_slots=0))
    trained, stable = model.prefix_cache(), model.prefix_cache()
    kept = {"trained": 0, "stable": 0, "all": 0}
    for index in range(30):
        memory.insert(slot_of(model, features, index))
        snapshot = memory.snapshot()
        trained.set_snapshot(snapshot)
        order = stable.set_snapshot(snapshot, stable=True)
        assert sorted(order) == list(range(len(snapshot.entries)))
        if index > 10:
            kept["trained"] += trained.cached_tokens - len(model._prompt.before)
            kept["stable"] += stable.cached_tokens - len(model._prompt.before)
            kept["all"] += model.tokens(snapshot)
        for prefix in (trained, stable):
            prefix.prefill(10_000)
        if index % 5 == 0:
            cached, reused = stable.answer("Where?", 4)
            assert reused > model.tokens(snapshot)
            uncached = model.answer(snapshot, "Where?", 4)
            assert_equal_answers(
                GreedyGeneration(model.network, reordered(uncached._prefill, order), model._vocabulary, 4), cached
            )
            stable.end_answer()
    assert kept["trained"] == 0  # the newest slot comes first
    assert kept["stable"] > 0.2 * kept["all"]


def test_a_stable_order_keeps_unchanged_slots_and_appends_new_ones() -> None:
    assert stable_order((), "abc") == (0, 1, 2)
    assert stable_order("abc", "abc") == (0, 1, 2)
    assert stable_order("bca", "abcd") == (1, 2, 0, 3)
    assert stable_order("xby", "abc") == (1, 0, 2)
    assert stable_order("abc", "") == ()


def test_clear_overwrites_all_states_including_those_an_answer_used(tiny: Qwen2VL) -> None:
    snapshot = memory_of(tiny, features_of(tiny), 7).snapshot()
    prefix = tiny.prefix_cache()
    prefill_all(tiny, prefix, snapshot)
    prefix.answer("Where?", 6)
    prefix.end_answer()
    buffers = prefix._cache.buffers
    assert any(buffer.any() for buffer in buffers)
    prefix.clear()
    assert not any(buffer.any() for buffer in buffers)
    assert (prefix.bytes, prefix.cached_tokens, prefix.remaining_tokens, prefix.ready) == (0, 0, 0, False)
    with pytest.raises(ValueError, match="no snapshot"):
        prefix.answer("Where?", 6)

    prefill_all(tiny, prefix, snapshot)
    expected = [token.id for token in tiny.answer(snapshot, "Where?", 6)]
    answer, _ = prefix.answer("Where?", 6)
    first = next(answer)
    prefix.clear()
    prefill_all(tiny, prefix, snapshot)
    assert [first.id, *(token.id for token in answer)] == expected
    prefix.end_answer()
    assert prefix.ready


def test_the_cache_size_is_computed_in_advance_and_constant_over_questions(tiny: Qwen2VL) -> None:
    snapshot = memory_of(tiny, features_of(tiny), 7).snapshot()
    prefix = tiny.prefix_cache()
    prefill_all(tiny, prefix, snapshot)
    assert prefix.bytes == tiny.prefix_cache().bytes_for(tiny.tokens(snapshot))
    for _ in range(5):
        answer, _ = prefix.answer("Where?", 20)
        list(answer)
        prefix.end_answer()
    assert prefix.bytes == tiny.prefix_cache().bytes_for(tiny.tokens(snapshot))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(1, 4)),
        st.tuples(st.just("read"), st.integers(1, 200)),
        st.tuples(st.just("show"), st.just(0)),
        st.tuples(st.just("forget"), st.integers(0, 20)),
        st.tuples(st.just("clear"), st.just(0)),
        st.tuples(st.just("ask"), st.integers(0, len(QUESTIONS) - 1)),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_answers_equal_uncached_ones_after_any_sequence_of_operations(
    tiny: Qwen2VL, steps: list[tuple[str, int]]
) -> None:
    features, prefix = features_of(tiny), tiny.prefix_cache()
    memory = memory_of(tiny, features, 2)
    shown, slots = memory.snapshot(), 2
    prefix.set_snapshot(shown)
    for step, number in [*steps, ("show", 0), ("ask", 0)]:
        if step == "insert":
            for _ in range(number):
                memory.insert(slot_of(tiny, features, slots))
                slots += 1
        elif step == "read":
            prefix.prefill(number)
        elif step == "forget":
            memory.forget(Scope(since_ns=2 * number * SECOND, until_ns=2 * (number + 2) * SECOND))
        elif step == "clear":
            prefix.clear()
            prefix.set_snapshot(shown)
        elif step == "show" and memory.entries:
            shown = memory.snapshot()
            prefix.set_snapshot(shown)
        elif step == "ask":
            answer, _ = prefix.answer(QUESTIONS[number], 3)
            assert_equal_answers(tiny.answer(shown, QUESTIONS[number], 3), answer)
            prefix.end_answer()
