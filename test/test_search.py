"""A search in the engine: moments without an answer, from the same queue, memory and prefix cache as questions."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from caching_prefillers import CONFIG, EAGER, ON_DEMAND, assert_same, is_cached, model
from hypothesis import given
from hypothesis import strategies as st
from tiny_engine import ROOMY, SECOND, Failing, ask, entries, image, running, wait_until, watch

from flash_vstream_ros.engine.answering.prefiller import Prefiller
from flash_vstream_ros.engine.answering.question import Answer, ErrorCode, Evidence, Question
from flash_vstream_ros.engine.answering.request import Request
from flash_vstream_ros.engine.answering.request_queue import RequestQueue
from flash_vstream_ros.engine.answering.search import SEARCH_PROMPT, moments_of, prompt_of, same_moment
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.memory.config import HIERARCHICAL
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import EntryKind, MemoryEntry
from flash_vstream_ros.models.decoding.greedy import GreedyGeneration
from flash_vstream_ros.models.qwen2_vl import Qwen2VL

__all__ = ["model"]  # a fixture


def entry(kind: EntryKind, first: int, last: int, shown: int, camera: str = "front") -> MemoryEntry:
    return MemoryEntry(kind, camera, "", first, last, 1.0, b"", shown)


def key_frame(first: int, last: int, camera: str = "front") -> MemoryEntry:
    return entry(EntryKind.DAM, first, last, last, camera)


def cluster(first: int, last: int, shown: int, camera: str = "front") -> MemoryEntry:
    return entry(EntryKind.CSM, first, last, shown, camera)


def search(engine: Engine, text: str = "red ball", moments: int = 3, **fields: Any) -> Answer:
    return ask(engine, text, moments=moments, **fields)


def test_a_cluster_and_the_key_frame_of_its_exemplar_are_one_moment() -> None:
    wide, frame, other = cluster(0, 100, shown=12), key_frame(10, 12), cluster(40, 60, shown=50)
    moments = moments_of([Evidence(other, 0.3), Evidence(wide, 0.25), Evidence(frame, 0.125)])
    assert moments == (Evidence(other, 0.3), Evidence(frame, 0.25))


def test_a_key_frame_that_overlaps_two_moments_makes_them_one() -> None:
    evidence = [Evidence(cluster(0, 9, 5), 0.5), Evidence(cluster(0, 9, 4), 0.3), Evidence(key_frame(3, 6), 0.1)]
    assert moments_of(evidence) == (Evidence(key_frame(3, 6), 0.5),)


def test_what_another_camera_saw_at_the_time_is_another_moment() -> None:
    assert not same_moment(key_frame(10, 12), key_frame(10, 12, "rear"))
    assert not same_moment(key_frame(10, 12), cluster(10, 12, 12, "rear"))


def test_clusters_whose_spans_overlap_are_different_moments_where_they_show_different_slots() -> None:
    assert not same_moment(cluster(0, 100, 12), cluster(5, 90, 14))
    assert same_moment(cluster(0, 100, 12), cluster(5, 90, 12))


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 3), st.sampled_from("ab"), st.integers(0, 64)),
        max_size=12,
    )
)
def test_merging_keeps_the_order_of_the_strongest_entries(drawn: list[tuple[bool, int, int, str, int]]) -> None:
    given = [
        Evidence(key_frame(at, at + length, camera) if dam else cluster(0, 20, at, camera), share / 64)
        for dam, at, length, camera, share in drawn
    ]
    moments = moments_of(given)
    shares = [moment.relevance for moment in moments]
    assert max(shares, default=0.0) == max((one.relevance for one in given), default=0.0)
    assert not any(same_moment(one.entry, other.entry) for one, other in combinations(moments, 2))
    assert shares == sorted(shares, reverse=True)
    assert {moment.entry for moment in moments} <= {one.entry for one in given}
    assert {moment.entry.camera for moment in moments} == {one.entry.camera for one in given}


def test_a_text_is_put_into_the_prompt_and_a_whole_question_stays() -> None:
    assert prompt_of(Question(" red {} ball ", moments=1)) == SEARCH_PROMPT.replace("{}", "red {} ball")
    assert prompt_of(Question("Where is the red ball? ", moments=1)) == "Where is the red ball?"
    assert prompt_of(Question("red ball")) == "red ball"


def test_a_search_returns_the_moments_that_its_prompt_attends_to_and_no_text(model: Qwen2VL) -> None:
    with running(replace(CONFIG, evidence=64), lambda: model) as (engine, _):
        watch(engine, range(1, 21))
        whole = len(entries(engine))
        found = search(engine, moments=2)
        answer = ask(engine, SEARCH_PROMPT.replace("{}", "red ball"))
        every = search(engine, moments=64)
    assert (found.error_code, found.text, found.token_probability, found.confidence) == (ErrorCode.NONE, "", 0.0, 0.0)
    assert len(found.evidence) == 2
    assert len(every.evidence) <= whole
    assert found.evidence == every.evidence[:2]
    assert every.evidence == moments_of(answer.evidence)
    assert all(one.entry.thumbnail.startswith(b"\xff\xd8") for one in every.evidence)
    assert (found.covered_since_ns, found.covered_until_ns) == (answer.covered_since_ns, answer.covered_until_ns)
    assert found.memory_tokens == answer.memory_tokens


@pytest.mark.parametrize("retention", ["published", HIERARCHICAL])
def test_a_search_changes_neither_the_memory_nor_the_prefix_cache(model: Qwen2VL, retention: str) -> None:
    config = replace(CONFIG, prefix_cache=EAGER, second_look=0.5)
    config = replace(config, memory=replace(config.memory, retention=retention))
    with running(config, lambda: model) as (engine, warnings):
        watch(engine, range(1, 31))
        wait_until(lambda: is_cached(engine))
        before, held = ask(engine), entries(engine)
        status = engine.status()
        found = [search(engine, text) for text in ("red ball", "x" * 900, "Who is there?")]
        assert engine.status().prefix_cache.until_ns == status.prefix_cache.until_ns
        assert engine.status().memory == status.memory
        after = ask(engine)
        assert entries(engine) == held
        assert search(engine).evidence == found[0].evidence
    assert not warnings
    assert_same(before, after)
    # A second look drops the instruction from the cache, which is prefilled again while the engine is idle.
    assert all(one.cached_tokens > one.memory_tokens / 2 for one in (*found, after))
    assert all(one.evidence for one in found)


def test_a_cached_search_finds_what_an_uncached_one_finds(model: Qwen2VL) -> None:
    found = []
    for uncached in (True, False):
        cached = replace(ON_DEMAND, max_mib=0) if uncached else ON_DEMAND
        with running(replace(CONFIG, prefix_cache=cached), lambda: model) as (engine, _):
            watch(engine, range(1, 21))
            search(engine)
            found.append(search(engine))
    assert found[0].cached_tokens == 0 < found[1].cached_tokens
    assert [one.entry for one in found[0].evidence] == [one.entry for one in found[1].evidence]
    shares = [[one.relevance for one in answer.evidence] for answer in found]
    assert shares[0] == pytest.approx(shares[1], rel=1e-3)


def test_a_search_is_limited_to_cameras_and_stamps(model: Qwen2VL) -> None:
    with running(replace(CONFIG, cameras=("front", "rear")), lambda: model) as (engine, _):
        for camera in ("front", "rear"):
            watch(engine, range(1, 11), camera)
        rear = search(engine, scope=Scope(("rear",)))
        late = search(engine, scope=Scope(since_ns=9_000_000_000))
        never = search(engine, scope=Scope(since_ns=99_000_000_000))
        unknown = search(engine, scope=Scope(("left",)))
    assert {one.entry.camera for one in rear.evidence} == {"rear"}
    assert all(one.entry.last_ns >= 9_000_000_000 for one in late.evidence)
    assert (never.error_code, unknown.error_code) == (ErrorCode.NO_FRAMES, ErrorCode.INVALID_REQUEST)
    assert not never.evidence


@pytest.mark.parametrize(("text", "message"), [(" \n", "the search is empty"), ("x" * 4097, "the search has 4097")])
def test_a_text_that_cannot_be_searched_for_is_refused(model: Qwen2VL, text: str, message: str) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        refused = search(engine, text)
    assert refused.error_code is ErrorCode.INVALID_REQUEST
    assert message in refused.error_msg


def test_questions_are_answered_before_searches_that_wait() -> None:
    queue = RequestQueue(8)
    asked = [Request(Question(text, moments=moments), 60.0) for text, moments in (("a", 1), ("b", 0), ("c", 1))]
    for request in asked:
        assert queue.push(request) is None
    assert queue.has_question()
    order = [queue.pop() for _ in range(4)]
    assert order == [asked[1], asked[0], asked[2], None]
    assert not queue.has_question()


def test_a_question_that_arrives_during_a_search_is_answered_first(
    model: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search is prefilled in chunks; a question arrives with the first of them."""
    config = replace(CONFIG, prefix_cache=replace(ON_DEMAND, max_mib=0))
    with running(config, lambda: model) as (engine, warnings):
        watch(engine, range(1, 21))
        late: list[Request] = []
        finished: list[str] = []
        monkeypatch.setattr(Prefiller, "prefill_chunk", lambda self, generation: _ask_once(engine, late))
        finish = RequestQueue.finish

        def note(queue: RequestQueue, request: Request, answer: Answer) -> None:
            finished.append(request.question.text)
            finish(queue, request, answer)

        monkeypatch.setattr(RequestQueue, "finish", note)
        found = search(engine, "red ball")
        assert late[0].answer(30.0).error_code is ErrorCode.NONE
    assert finished == ["Who?", "red ball"]
    assert found.error_code is ErrorCode.NONE
    assert len(found.evidence) == 3
    assert not warnings


def _ask_once(engine: Engine, late: list[Request]) -> bool:
    if late:
        return False
    late.append(engine.ask(Question("Who?")))
    return True


def test_a_search_is_cancelled_and_times_out_as_a_question(model: Qwen2VL) -> None:
    with running(replace(CONFIG, max_new_tokens=60_000), lambda: model) as (engine, _):
        watch(engine, range(1, 5))
        story = engine.ask(Question("a long story"))
        next(iter(story))
        waiting = engine.ask(Question("red ball", moments=3, id="mine"))
        hasty = engine.ask(Question("red ball", moments=3, deadline_s=0.001))
        assert engine.cancel("mine")
        cancelled, expired = waiting.answer(30.0), hasty.answer(30.0)
        story.cancel()
    assert (cancelled.error_code, cancelled.error_msg) == (ErrorCode.CANCELLED, "the search was cancelled")
    assert expired.error_code is ErrorCode.TIMEOUT
    assert not cancelled.evidence
    assert not expired.evidence


def test_what_is_forgotten_is_found_no_more(model: Qwen2VL) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 21))
        assert search(engine, moments=64).evidence
        engine.submit(lambda commands: MemoryCommands.forget(commands, Scope(since_ns=5_000_000_000))).result(30.0)
        found = search(engine, moments=64)
    assert all(one.entry.last_ns < 5_000_000_000 for one in found.evidence)


def test_searches_do_not_count_as_first_tokens(model: Qwen2VL) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 5))
        search(engine)
        status = engine.status()
    assert status.questions_answered == 1
    assert status.first_token_s == (0.0, 0.0)


def test_an_image_finds_the_slot_that_shows_it(model: Qwen2VL) -> None:
    with running(replace(CONFIG, memory=ROOMY.memory), lambda: model) as (engine, warnings):
        watch(engine, range(1, 21))
        before = engine.status()
        found = search(engine, "", moments=64, image=image(6))
        late = search(engine, "", image=image(6), scope=Scope(since_ns=15 * SECOND))
        never = search(engine, "", image=image(6), scope=Scope(since_ns=99 * SECOND))
        assert ask(engine).error_code is ErrorCode.NONE
        assert engine.status().memory == before.memory
    assert not warnings
    assert found.error_code is ErrorCode.NONE
    assert len(found.evidence) == len({one.entry.last_ns for one in found.evidence}) == 10
    cosines = [one.relevance for one in found.evidence]
    assert cosines == sorted(cosines, reverse=True)
    assert 1 >= cosines[0] > max(0.0, cosines[1]) >= cosines[-1] >= -1
    assert found.evidence[0].entry.last_ns == 6 * SECOND
    assert all(one.entry.last_ns >= 15 * SECOND for one in late.evidence)
    assert never.error_code is ErrorCode.NO_FRAMES


@pytest.mark.parametrize("policy", ["flash", "recent", "uniform"])
def test_every_policy_that_keeps_whole_slots_is_searched_for_an_image(model: Qwen2VL, policy: str) -> None:
    with running(replace(CONFIG, policy=policy), lambda: model) as (engine, _):
        empty = search(engine, "", image=image(3))
        watch(engine, range(1, 11))
        found = search(engine, "", image=image(10))
    assert empty.error_code is ErrorCode.NO_FRAMES
    assert found.error_code is ErrorCode.NONE
    assert found.evidence[0].entry.last_ns == 10 * SECOND


def test_a_search_is_for_a_text_or_an_image_of_a_size_that_the_model_takes(model: Qwen2VL) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 5))
        both, thin = search(engine, "red ball", image=image(1)), search(engine, "", image=image(1, (2, 900)))
    assert both.error_code is thin.error_code is ErrorCode.INVALID_REQUEST
    assert "a text and an image" in both.error_msg
    assert "the image cannot be searched for" in thin.error_msg


def test_a_search_that_fails_on_the_device_is_repeated_or_reported(model: Qwen2VL) -> None:
    failing = Failing(model, "answer", ValueError("a defect"))
    with running(CONFIG, lambda: failing) as (engine, warnings):  # type: ignore[arg-type, return-value]
        watch(engine, range(1, 5))
        failed, again = search(engine), search(engine)
    assert (failed.error_code, again.error_code) == (ErrorCode.INTERNAL, ErrorCode.NONE)
    assert any("search failed: ValueError: a defect" in warning for warning in warnings)


def test_an_attention_that_is_not_finite_is_an_error(model: Qwen2VL, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 5))
        with monkeypatch.context() as patch:
            patch.setattr(GreedyGeneration, "attention", (math.nan,) * 8)
            failed = search(engine)
        assert search(engine).error_code is ErrorCode.NONE
    assert failed.error_code is ErrorCode.INTERNAL
    assert "no finite attention" in failed.error_msg
