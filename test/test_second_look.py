"""Second look: the question is prefilled twice, and answered from the memory and the stored details behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from memory_slots import QUESTIONS, SECOND, SIDE, assert_equal_answers, features_of, prefill_all, slot_of
from torch import Tensor

from flash_vstream_ros.engine.answering.caching_prefiller import CachingPrefiller, prefiller_for
from flash_vstream_ros.engine.answering.dialogue import Dialogue
from flash_vstream_ros.engine.answering.prefiller import Prefiller
from flash_vstream_ros.engine.answering.prefix_cache_config import PrefixCacheConfig
from flash_vstream_ros.engine.answering.question import Answer, ErrorCode, Question
from flash_vstream_ros.engine.answering.request import Request
from flash_vstream_ros.engine.answering.request_queue import RequestQueue
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.am_rope import MergedGrid, visual_ids
from flash_vstream_ros.memory.config import HIERARCHICAL, PUBLISHED, FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.scope import EVERYTHING, Scope
from flash_vstream_ros.memory.slot import EntryKind, MemorySnapshot
from flash_vstream_ros.models.decoding.greedy import GreedyGeneration, Prefill
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.qwen2_vl import Qwen2VL
from flash_vstream_ros.models.video_prompt import VideoPrompted, position_ids

SLOTS = 18
AGES = {"tiny-random": "", "household": "{minutes}"}
CONFIG = EngineConfig(max_new_tokens=6, second_look=0.25, evidence=64)


@pytest.fixture(scope="module", params=["tiny-random", "household"])
def model(request: pytest.FixtureRequest) -> Qwen2VL:
    model = load_model(request.param, "cpu", "float32", SIDE * SIDE, age_text=AGES[request.param])
    assert isinstance(model, Qwen2VL)
    return model


@pytest.fixture(scope="module")
def features(model: Qwen2VL) -> list[tuple[Tensor, Tensor]]:
    return features_of(model)


def memory_with(
    model: Qwen2VL, features: list[tuple[Tensor, Tensor]], retention: str = HIERARCHICAL, slots: int = SLOTS
) -> FlashMemory:
    memory = FlashMemory(FlashMemoryConfig(csm_slots=5, dam_slots=3, horizon_slots=8, retention=retention))
    for index in range(slots):
        memory.insert(slot_of(model, features, index))
    return memory


def looks(memory: FlashMemory) -> tuple[MemorySnapshot, MemorySnapshot]:
    snapshot = memory.snapshot()
    details = memory.second_look(snapshot.entries[::-1], memory.tokens // 4)
    assert len(details.csm) > 1
    return snapshot, details


def read_once(model: Qwen2VL, snapshot: MemorySnapshot, details: MemorySnapshot, question: str) -> GreedyGeneration:
    """The same prompt without a first look, with position ids computed by this test."""
    memory, more = (model._prefill(each, (), ()) for each in (snapshot, details))
    before, after = model._prompt.before, model._prompt.after(question)
    start, shown = len(before), model._prefill(snapshot, before, after)
    end = start + sum(memory.entry_tokens)
    detail, low = MergedGrid(4, 4), MergedGrid(2, 2)
    ids = visual_ids(details.dam_times, details.csm_times, detail, low, start)
    # Both CSM parts count from the same time 0.
    ids[:, len(details.dam) * 16 :] += (len(snapshot.dam) - len(details.dam)) * 16
    words = [count - visual for count, visual in zip(more.entry_tokens, visual_tokens(details), strict=True)]
    firsts = torch.tensor([sum(visual_tokens(details)[:place]) for place in range(len(words))])
    places = [
        place
        for first, count, visual in zip(firsts.tolist(), words, visual_tokens(details), strict=True)
        for place in (*[first] * count, *range(first, first + visual))
    ]
    return GreedyGeneration(
        model.network,
        Prefill(
            embeds=torch.cat([shown.embeds[:, :end], more.embeds, shown.embeds[:, end:]], dim=1),
            ids=torch.cat([shown.ids[..., :end], ids[:, places][:, None], shown.ids[..., end:]], dim=2),
            next_id=shown.next_id,
            visual_start=start,
            entry_tokens=memory.entry_tokens + more.entry_tokens,
        ),
        model._vocabulary,
        6,
    )


def visual_tokens(snapshot: MemorySnapshot) -> list[int]:
    return [16] * len(snapshot.dam) + [4] * len(snapshot.csm)


@pytest.mark.parametrize("question", QUESTIONS[:4])
def test_cached_and_uncached_prompts_equal_one_without_a_first_look(model, features, question: str) -> None:
    snapshot, details = looks(memory_with(model, features))
    expected = read_once(model, snapshot, details, question)
    uncached = model.answer(snapshot, question, 6)
    uncached.prefill(uncached.remaining_tokens)
    assert model.look_again(uncached, details)
    assert len(uncached.attention) == len(snapshot.entries) + len(details.entries)
    assert_equal_answers(expected, uncached)
    prefix = model.prefix_cache()
    prefill_all(model, prefix, snapshot)
    cached, _ = prefix.answer(question, 6)
    cached.prefill(cached.remaining_tokens)
    assert model.look_again(cached, details)
    assert_equal_answers(read_once(model, snapshot, details, question), cached)


@pytest.mark.parametrize("chunk", [9, 64])
def test_an_answer_does_not_depend_on_the_chunks_in_which_both_looks_are_prefilled(model, features, chunk) -> None:
    snapshot, details = looks(memory_with(model, features))
    answers = []
    for tokens in (chunk, 10_000):
        generation = model.answer(snapshot, "Where is it?", 6)
        for _ in range(2):
            while generation.remaining_tokens:
                generation.prefill(tokens)
            if len(generation.attention) == len(snapshot.entries):
                model.look_again(generation, details)
        answers.append(generation)
    assert_equal_answers(*answers)


def test_the_prefix_stays_cached_and_later_answers_equal_those_of_an_uncached_prompt(model, features) -> None:
    snapshot, details = looks(memory_with(model, features))
    prefix = model.prefix_cache()
    prefill_all(model, prefix, snapshot)
    for question in ("Where is it?", "When?"):
        cached, reused = prefix.answer(question, 6)
        cached.prefill(cached.remaining_tokens)
        model.look_again(cached, details)
        _ = list(cached)
        prefix.end_answer()
        assert prefix.ready
        assert 0 <= prefix.remaining_tokens <= len(model._prompt.leading)
        assert reused >= len(model._prompt.before) + model.tokens(snapshot)
        prefix.prefill(prefix.remaining_tokens)
        again, _ = prefix.answer(question, 6)
        assert_equal_answers(model.answer(snapshot, question, 6), again)
        prefix.end_answer()


@pytest.mark.parametrize("positions", ["video"])
def test_models_with_video_prompts_get_the_details_as_further_videos(positions: str) -> None:
    model = load_model("tiny-random", "cpu", "float32", SIDE * SIDE, positions=positions)
    assert isinstance(model, VideoPrompted)
    snapshot, details = looks(memory_with(model, features_of(model)))
    generation = model.answer(snapshot, "Where?", 6)
    generation.prefill(generation.remaining_tokens)
    assert model.look_again(generation, details)
    before, after = model._prompt.before, model._prompt.after("Where?")
    pieces = [before, *model._pieces(snapshot), *model._separator(), *model._pieces(details), after]
    embeds, ids = model._embed(pieces), position_ids(pieces)
    first, *others = model._entry_tokens(details)
    counts = (*model._entry_tokens(snapshot), first + 2, *others)
    assert len(before) + sum(counts) + len(after) == len(embeds)
    prompt = Prefill(embeds[None], ids[:, None], int(ids[0, -1]) + 1, len(before), counts)
    assert_equal_answers(GreedyGeneration(model.network, prompt, model._vocabulary, 6), generation)


class Conversation:
    """The engine's prefiller and dialogue on one memory, in this thread."""

    def __init__(self, model: Any, memory: FlashMemory, config: EngineConfig = CONFIG, cached: bool = True) -> None:
        self.model, self.memory = model, memory
        self.requests = RequestQueue(4)
        self.warnings: list[str] = []
        context = Context(model, memory, ThrottledLog(self.warnings.append))
        limits = PrefixCacheConfig(max_device_share=1.0)
        self.prefiller = prefiller_for(context, limits) if cached else Prefiller(context)
        self.dialogue = Dialogue(context, config, self.prefiller, self.requests)

    def push(self, text: str = "Where is it?", scope: Scope = EVERYTHING) -> Request:
        request = Request(Question(text, scope), 600.0)
        self.requests.push(request)
        return request

    def ask(self, text: str = "Where is it?", scope: Scope = EVERYTHING) -> Answer:
        request = self.push(text, scope)
        while self.dialogue.step():
            pass
        answer = request.answer()
        assert answer.error_code is ErrorCode.NONE, answer.error_msg
        return answer


SCOPES = {
    "everything": EVERYTHING,
    "since": Scope(since_ns=9 * SECOND),
    "until": Scope(until_ns=22 * SECOND),
    "both": Scope(since_ns=9 * SECOND, until_ns=26 * SECOND),
}


@pytest.mark.parametrize("scope", SCOPES)
def test_the_reply_is_the_same_cached_or_not_bounded_and_in_scope(model, features, scope: str) -> None:
    memory = memory_with(model, features)
    replies = [Conversation(model, memory, cached=cached).ask(scope=SCOPES[scope]) for cached in (True, False, False)]
    plain = Conversation(model, memory, replace(CONFIG, second_look=0.0)).ask(scope=SCOPES[scope])
    cached, uncached, again = replies
    assert uncached.text == cached.text == again.text
    assert uncached.token_probability == again.token_probability
    assert cached.token_probability == pytest.approx(uncached.token_probability, abs=1e-5)
    assert {evidence.entry for evidence in cached.evidence} == {evidence.entry for evidence in uncached.evidence}
    added = {evidence.entry for evidence in cached.evidence} - {evidence.entry for evidence in plain.evidence}
    assert added, "a second look shows something"
    assert plain.memory_tokens < cached.memory_tokens <= plain.memory_tokens + memory.tokens // 4
    inside = SCOPES[scope]
    for evidence in cached.evidence:
        assert inside.covers(evidence.entry)
    shown = cached.evidence
    assert [one.relevance for one in shown] == sorted((one.relevance for one in shown), reverse=True)
    assert (cached.covered_since_ns, cached.covered_until_ns) == (plain.covered_since_ns, plain.covered_until_ns)
    assert not {evidence.entry for evidence in shown if evidence.relevance == 0.0}


def test_a_second_look_shows_the_entries_with_the_most_attention(model, features) -> None:
    memory = memory_with(model, features)
    first = Conversation(model, memory, replace(CONFIG, second_look=0.0), cached=False).ask()
    both = Conversation(model, memory, cached=False).ask()
    order = [evidence.entry for evidence in first.evidence]
    expected = memory.second_look(order, memory.tokens // 4)
    assert {evidence.entry for evidence in both.evidence} == {*order, *expected.entries}


@pytest.mark.parametrize(
    ("retention", "share", "looks_again"),
    [(PUBLISHED, 0.25, False), (HIERARCHICAL, 0.0, False), (HIERARCHICAL, 0.25, True)],
)
def test_only_a_hierarchical_memory_has_a_second_look(model, features, retention, share, looks_again) -> None:
    memory = memory_with(model, features, retention)
    answer = Conversation(model, memory, replace(CONFIG, second_look=share)).ask()
    assert (answer.memory_tokens > memory.tokens) is looks_again


def test_a_memory_that_shows_all_it_stores_is_answered_from_the_first_look(model, features) -> None:
    memory = memory_with(model, features, slots=3)
    conversation = Conversation(model, memory)
    assert conversation.ask().memory_tokens == memory.tokens
    assert not conversation.warnings


def test_both_looks_are_prefilled_in_chunks_between_frames(model, features) -> None:
    memory = memory_with(model, features)
    conversation = Conversation(model, memory, cached=False)
    conversation.prefiller.chunk_s = 0.0  # the fewest tokens at once
    sizes: list[int] = []
    prefill = conversation.prefiller.prefill

    def counted(prompt: Any, tokens: int) -> None:
        sizes.append(min(tokens, prompt.remaining_tokens))
        prefill(prompt, tokens)

    conversation.prefiller.prefill = counted  # type: ignore[method-assign]
    text = "Who? " * 60
    request, steps = conversation.push(text), 0
    while not request.is_finished:
        assert len(sizes) <= steps
        conversation.dialogue.step()
        steps += 1
        if steps % 3 == 0:  # frames arrive meanwhile
            memory.insert(slot_of(model, features, SLOTS + steps))
    assert max(sizes) <= 64
    assert len(sizes) >= 6, "the second look is prefilled in chunks too"
    assert request.answer().error_code is ErrorCode.NONE
    assert request.answer().memory_tokens > 0


def test_forgetting_slots_shown_only_in_the_second_look_cancels_the_answer(model, features) -> None:
    memory = memory_with(model, features)
    conversation = Conversation(model, memory)
    request = conversation.push()
    shown = memory.snapshot().entries
    while conversation.dialogue._active is None or conversation.dialogue._active.second_look_tokens:
        conversation.dialogue.step()
    entries = conversation.dialogue._active.prepared.snapshot.entries
    fine = [entry for entry in entries[len(shown) :] if entry.kind is EntryKind.CSM]
    assert fine
    assert entries[: len(shown)] == shown
    active = conversation.dialogue._active
    # Without the entries of the first look, which contain those of the second.
    active.prepared = replace(active.prepared, snapshot=replace(active.prepared.snapshot, entries=(fine[0],)))
    conversation.dialogue.forget(Scope(until_ns=fine[0].first_ns - 1))
    assert not request.is_finished
    conversation.dialogue.forget(Scope(since_ns=fine[0].first_ns, until_ns=fine[0].last_ns))
    assert request.answer().error_code is ErrorCode.CANCELLED
    assert request.answer().text == ""


class Short:
    """A model that runs out of memory `times` times, in the second look."""

    def __init__(self, model: Qwen2VL, times: int, error: Exception) -> None:
        self._model, self.times, self.error = model, times, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def look_again(self, *arguments: Any) -> bool:
        self.times -= 1
        if self.times >= 0:
            raise self.error
        return self._model.look_again(*arguments)


FAULTS = {"OUT_OF_MEMORY": torch.OutOfMemoryError("no room"), "INTERNAL": ZeroDivisionError("a defect")}


@pytest.mark.parametrize(("code", "times"), [("OUT_OF_MEMORY", 1), ("OUT_OF_MEMORY", 2), ("INTERNAL", 1)])
def test_a_failed_second_look_ends_only_its_own_answer(model, features, code: str, times: int) -> None:
    memory = memory_with(model, features)
    conversation = Conversation(Short(model, times, FAULTS[code]), memory)
    assert isinstance(conversation.prefiller, CachingPrefiller)
    request = conversation.push()
    while conversation.dialogue.step():
        pass
    # The cache is freed for the first retry, after which there is nothing left to free.
    is_retried = code == "OUT_OF_MEMORY" and times == 1
    assert request.answer().error_code.name == ("NONE" if is_retried else code)
    assert conversation.ask().text == Conversation(model, memory, cached=False).ask().text
