"""The prefix cache in the engine: background prefill changes nothing but the time to the first token."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import CONFIG, SECOND, Failing, ask, picture, running, settled, wait_until, watch
from test_prefix_cache import features_of, slot_of

from flash_vstream_ros.engine.answering.background_budget import BURST_WINDOW_S, BackgroundBudget
from flash_vstream_ros.engine.answering.cached_reader import RETRY_S, CachedReader
from flash_vstream_ros.engine.answering.dialogue import Dialogue
from flash_vstream_ros.engine.answering.prefix_cache_config import PrefixCacheConfig, PrefixCacheStatus
from flash_vstream_ros.engine.answering.question import Answer, ErrorCode, Question
from flash_vstream_ros.engine.answering.request import Request
from flash_vstream_ros.engine.answering.request_queue import RequestQueue
from flash_vstream_ros.engine.answering.uncached_reader import PreparedAnswer, UncachedReader
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.qwen2_vl import Qwen2VL

EAGER = PrefixCacheConfig(max_device_share=1.0)
ON_DEMAND = PrefixCacheConfig(max_device_share=0.0)
UNCACHED = PrefixCacheConfig(max_mib=0)
CONFIG = replace(CONFIG, prefix_cache=EAGER)


@pytest.fixture(scope="module")
def model() -> Qwen2VL:
    model = load_model("tiny-random", device="cpu", max_pixels=112 * 112)
    assert isinstance(model, Qwen2VL)
    return model


def is_cached(engine: Engine) -> bool:
    """Whether the newest memory has been read, all of it."""
    status = engine.status()
    return status.memory.entries > 0 and status.prefix_cache.until_ns == status.memory.last_ns


def assert_same(uncached: Answer, cached: Answer) -> None:
    """All of a reply but its times and what says that it used the cache."""
    unlike = {
        "token_probability": 0.0,
        "evidence": (),
        "cached_tokens": 0,
        "time_to_first_token_s": 0.0,
        "duration_s": 0.0,
    }
    assert replace(uncached, **unlike) == replace(cached, **unlike)
    assert cached.token_probability == pytest.approx(uncached.token_probability, abs=1e-5)
    assert [evidence.relevance for evidence in cached.evidence] == pytest.approx(
        [evidence.relevance for evidence in uncached.evidence], abs=1e-5
    )
    assert uncached.evidence


def test_an_idle_engine_reads_ahead_and_answers_as_an_uncached_one_does(model: Qwen2VL) -> None:
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


def test_a_question_leaves_what_it_read_to_the_next_one(model: Qwen2VL) -> None:
    with running(replace(CONFIG, prefix_cache=ON_DEMAND), lambda: model) as (engine, _):
        watch(engine, range(1, 9))
        first, second = ask(engine, "Who?"), ask(engine, "Who?")
        watch(engine, range(9, 11))
        third = ask(engine, "Who?")
    assert first.cached_tokens == 0 < second.cached_tokens
    assert_same(first, second)
    assert third.cached_tokens < second.cached_tokens
    assert third.covered_until_ns == 10 * SECOND


def test_a_part_of_the_memory_is_read_uncached_unless_it_is_all_of_it(model: Qwen2VL) -> None:
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
    """Those that keys and values are in."""
    return engine.order(lambda commands: commands._reader._prefix_cache._cache.buffers).result(30.0)


@pytest.mark.parametrize(
    "forget",
    [
        MemoryCommands.reset,
        lambda commands: commands.forget(Scope((), 2 * SECOND, 5 * SECOND)),
        lambda commands: commands.forget(Scope(("camera",))),
    ],
    ids=["reset", "an interval", "a camera"],
)
def test_what_is_forgotten_is_overwritten_before_anyone_is_told(
    model: Qwen2VL, forget: Callable[[MemoryCommands], Any]
) -> None:
    with running(replace(CONFIG, prefix_cache=ON_DEMAND), lambda: model) as (engine, _):
        watch(engine, range(1, 21))
        ask(engine)
        buffers = buffers_of(engine)
        assert any(buffer.any() for buffer in buffers)
        engine.order(forget).result(30.0)
        assert engine.status().prefix_cache == PrefixCacheStatus()
        assert not any(buffer.any() for buffer in buffers)
        watch(engine, range(21, 25))
        again = ask(engine)
    assert again.error_code is ErrorCode.NONE
    assert again.cached_tokens == 0


def test_an_answer_under_way_that_is_forgotten_leaves_nothing_behind(model: Qwen2VL) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 9))
        wait_until(lambda: is_cached(engine))
        buffers = buffers_of(engine)
        request = engine.ask(Question("a long story", max_new_tokens=60_000, deadline_s=60.0))
        next(iter(request))
        engine.order(MemoryCommands.reset).result(30.0)
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
            engine.order(lambda _: None).result(30.0)  # it may have been about to begin a question
            answers.append(ask(engine))
            if change.get("prefix_cache") and cached is EAGER:
                wait_until(lambda: engine.status().prefix_cache.bytes == 0)
    assert_same(*answers)


def test_a_frame_or_a_question_waits_for_a_portion_only(model: Qwen2VL) -> None:
    with running(replace(CONFIG, prefix_cache=replace(EAGER, max_chunk_tokens=1)), lambda: model) as (engine, _):
        watch(engine, range(1, 21))
        wait_until(lambda: engine.status().prefix_cache.tokens > 5)
        watch(engine, range(21, 22))  # the first frame of a slot changes nothing
        assert engine.status().frames.encoded == 21
        assert not is_cached(engine), "the frame waited for all of it"
        answer = ask(engine)
        assert 5 < answer.cached_tokens < answer.memory_tokens
        wait_until(lambda: is_cached(engine))


def test_an_inactive_engine_reads_nothing_ahead_and_a_stopped_one_keeps_nothing(model: Qwen2VL) -> None:
    with running(replace(CONFIG, prefix_cache=ON_DEMAND), lambda: model) as (engine, _):
        watch(engine, range(1, 9))
        engine.deactivate()
        engine.reconfigure(CONFIG)
        engine.order(lambda _: None).result(30.0)
        watch(engine, range(9, 12))
        assert engine.status().prefix_cache == PrefixCacheStatus()
        engine.activate()
        wait_until(lambda: is_cached(engine))
    assert engine.status().prefix_cache == PrefixCacheStatus()


def test_cameras_in_turn_are_read_ahead_as_well(model: Qwen2VL) -> None:
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


class Counted:
    """A prefix that fails, or takes its time on a clock of the test, and counts what is asked of it."""

    def __init__(self, prefix: Any) -> None:
        self._prefix = prefix
        self.error: Exception | None = None
        self.at = "prefill"
        self.read_s = 0.0
        self.shown, self.chunks = 0, 0
        self.now = 0.0

    def __getattr__(self, name: str) -> Any:
        if name == self.at and self.error is not None:
            raise self.error
        return getattr(self._prefix, name)

    def set_snapshot(self, snapshot: Any, stable: bool) -> Any:
        self.shown += 1
        return self.__getattr__("set_snapshot")(snapshot, stable)

    def prefill(self, tokens: int) -> None:
        self.chunks += 1
        self.now += self.read_s
        self.__getattr__("prefill")(tokens)


class Bench:
    """A reader of a small memory, on one thread and a clock of its own."""

    def __init__(self, model: Qwen2VL, limits: PrefixCacheConfig, slots: int = 7, **memory: Any) -> None:
        self.model, self.features = model, features_of(model)
        sizes = {"csm_slots": 5, "dam_slots": 3, **memory}
        self.memory = FlashMemory(FlashMemoryConfig(**sizes))
        self.said: list[str] = []
        self.prefix = Counted(model.prefix_cache())
        log = ThrottledLog(self.said.append, period_s=0.0)
        context = Context(model, self.memory, log)
        self.reader = CachedReader(context, self.prefix, limits, lambda: self.prefix.now)  # type: ignore[arg-type]
        self.uncached = UncachedReader(context)
        self.slots = 0
        self.see(slots)

    def see(self, slots: int) -> None:
        for _ in range(slots):
            self.memory.insert(slot_of(self.model, self.features, self.slots))
            self.slots += 1
        self.reader.note_memory_change()

    def warm_up(self) -> None:
        while (wait_s := self.reader.background_prefill()) is not None:
            assert wait_s < RETRY_S
            self.prefix.now += wait_s + 1e-6

    def asked(self, text: str = "Where?", **bounds: Any) -> tuple[PreparedAnswer | None, list[tuple[int, str]]]:
        reading = self.reader.start(Question(text, Scope(**bounds)), 4)
        tokens = [(token.id, token.text) for token in reading.generation] if reading else []
        self.reader.end_answer()
        return reading, tokens

    def asked_uncached(
        self, text: str = "Where?", **bounds: Any
    ) -> tuple[PreparedAnswer | None, list[tuple[int, str]]]:
        reading = self.uncached.start(Question(text, Scope(**bounds)), 4)
        return reading, [(token.id, token.text) for token in reading.generation] if reading else []


def chunks_of(reader: UncachedReader, reading: PreparedAnswer, between: Callable[[], object] = lambda: None) -> int:
    """How many of them the prompt is read in before the first token is due."""
    chunks = 0
    while reader.prefill_chunk(reading.generation):
        chunks += 1
        between()
    return chunks


@pytest.mark.parametrize("kind", ["cached", "uncached"])
def test_a_long_prompt_is_read_in_portions_between_which_the_memory_may_change(model: Qwen2VL, kind: str) -> None:
    bench, text = Bench(model, ON_DEMAND), "Who? " * 200
    reader = bench.reader if kind == "cached" else bench.uncached
    (uncached, expected), slots = bench.asked_uncached(text), bench.slots
    assert uncached is not None
    assert chunks_of(reader, uncached) == 0, "it is whole already"
    reader.chunk_s = 0.0  # as few tokens as possible

    def change() -> None:
        bench.see(1)
        if bench.slots == slots + 5:
            bench.memory.forget(Scope(until_ns=6 * SECOND))

    reading = reader.start(Question(text), 4)
    assert reading is not None
    tokens = reading.generation.remaining_tokens
    assert chunks_of(reader, reading, change) == (tokens - 1) // 64 > 15
    assert [(token.id, token.text) for token in reading.generation] == expected
    reader.end_answer()
    assert reading.snapshot.entries == uncached.snapshot.entries
    assert list(reading.generation.attention) == pytest.approx(list(uncached.generation.attention), abs=1e-5)
    newest, said = bench.asked(text)
    assert newest is not None
    assert newest.snapshot.last_ns == bench.memory.last_ns > reading.snapshot.last_ns
    assert said == bench.asked_uncached(text)[1]


def test_frames_are_taken_in_while_the_prompt_of_a_question_is_read(model: Qwen2VL) -> None:
    begun, offered, slots = threading.Event(), threading.Event(), []

    class Slow(Failing):
        """Takes its time to read, and notes how far the memory is then."""

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
            engine.offer(Frame("camera", "", stamp_ms * SECOND // 1000, lambda stamp_ms=stamp_ms: picture(stamp_ms)))
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
    bench.reader.chunk_s = 0.0
    log = ThrottledLog(bench.said.append)
    dialogue = Dialogue(Context(model, bench.memory, log), EngineConfig(max_new_tokens=4), bench.reader, requests)
    request = Request(Question("Who? " * 200), 60.0)
    requests.push(request)
    for _ in range(6):  # it is begun, and read
        assert dialogue.step()
    assert bench.reader.status.tokens > 0
    request.cancel()
    assert dialogue.step()
    assert not dialogue.step()
    assert (request.answer(0.0).error_code, request.answer(0.0).text) == (ErrorCode.CANCELLED, "[untrained]")
    assert bench.asked("Who?")[1] == bench.asked_uncached("Who?")[1]
    assert not bench.said


def test_portions_of_a_question_take_about_as_long_as_frames_may_wait(model: Qwen2VL) -> None:
    bench = Bench(model, ON_DEMAND)
    bench.reader.chunk_s = 0.1
    reading = bench.reader.start(Question("Who? " * 400), 4)
    assert reading is not None
    answering: Any = reading.generation
    sizes, read = [], answering.prefill

    def at_2000_tokens_a_second(tokens: int) -> None:
        before = answering.remaining_tokens
        read(tokens)
        sizes.append(before - answering.remaining_tokens)
        bench.prefix.now += sizes[-1] / 2000

    answering.prefill = at_2000_tokens_a_second
    chunks_of(bench.reader, reading)
    assert sizes[0] == 64
    assert len(sizes) > 8
    assert set(sizes[1:]) <= {199, 200}
    assert 0 < answering.remaining_tokens <= 200


def shown_of(reading: PreparedAnswer | None) -> Any:
    return reading and (reading.snapshot.entries, reading.memory_tokens, reading.generation.attention)


ERRORS = [torch.OutOfMemoryError("no room"), ZeroDivisionError("a defect")]


@pytest.mark.parametrize("at", ["set_snapshot", "prefill"])
@pytest.mark.parametrize("error", ERRORS, ids=["no room", "defect"])
def test_a_failure_while_reading_ahead_is_said_and_counted_and_questions_are_uncached(
    model: Qwen2VL, at: str, error: Exception
) -> None:
    bench = Bench(model, EAGER)
    bench.prefix.error, bench.prefix.at = error, at
    while not bench.reader.status.failures:
        bench.reader.background_prefill()
    wait_s = bench.reader.background_prefill()
    assert bench.reader.status == PrefixCacheStatus(failures=1)
    assert len(bench.said) == 1
    assert str(error) in bench.said[0]
    assert "prefix cache off for 30 s" in bench.said[0]
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


def test_a_question_for_which_there_is_no_room_to_keep_it_is_answered_uncached(model: Qwen2VL) -> None:
    bench = Bench(model, ON_DEMAND)
    bench.prefix.error, bench.prefix.at = ERRORS[0], "set_snapshot"
    reading, tokens = bench.asked()
    assert (reading and reading.cached_tokens, tokens) == (0, bench.asked_uncached()[1])
    assert bench.reader.status.failures == 1


def test_room_is_made_when_frames_or_answers_need_it(model: Qwen2VL) -> None:
    no_room = torch.OutOfMemoryError("no room")

    class Short(Failing):
        """Has the prefix cache, and once no room for a slot."""

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


def test_an_answer_for_which_there_is_no_room_beside_cached_memory_is_made_uncached(model: Qwen2VL) -> None:
    prefix = Counted(model.prefix_cache())

    class Short(Failing):
        """Has the prefix cache, and no room for an answer beside it."""

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


def test_memory_that_is_too_large_is_not_kept_and_that_is_said(model: Qwen2VL) -> None:
    bench = Bench(model, replace(EAGER, max_mib=1), slots=120, csm_slots=120, dam_slots=120)
    bench.warm_up()
    assert bench.reader.status == PrefixCacheStatus()
    assert "prefix_cache.max_mib allows 1" in bench.said[0]
    reading, tokens = bench.asked()
    assert (reading and reading.cached_tokens, tokens) == (0, bench.asked_uncached()[1])
    bench.reader.config = EAGER
    bench.warm_up()
    assert 1 << 20 < bench.reader.status.bytes <= EAGER.max_mib << 20
    bench.reader.config = replace(EAGER, max_mib=1)
    bench.warm_up()
    assert bench.reader.status == PrefixCacheStatus()


def test_an_answer_may_lag_as_far_as_is_allowed_and_says_how_far_it_does(model: Qwen2VL) -> None:
    bench = Bench(model, replace(ON_DEMAND, max_lag_s=5.0))
    old, tokens = bench.asked()
    assert old is not None
    assert old.lag_slots == 0
    bench.see(2)  # 4 s
    late, late_tokens = bench.asked()
    assert late is not None
    assert (late.lag_slots, late.snapshot.last_ns) == (2, old.snapshot.last_ns)
    assert late_tokens == tokens
    bench.see(1)
    fresh, fresh_tokens = bench.asked()
    assert fresh is not None
    assert (fresh.lag_slots, fresh.snapshot.last_ns) == (0, old.snapshot.last_ns + 6 * SECOND)
    assert fresh_tokens == bench.asked_uncached()[1]


@pytest.mark.parametrize(("tail", "recent"), [(1, 1), (2, 2), (8, 3)])
def test_the_newest_slots_are_shown_after_memory_that_lags(model: Qwen2VL, tail: int, recent: int) -> None:
    limits = replace(ON_DEMAND, max_lag_s=10.0, tail_slots=tail)
    bench = Bench(model, limits, recent_slots=recent)
    old, _ = bench.asked()
    bench.see(3)
    reading, tokens = bench.asked()
    assert old is not None
    assert reading is not None
    shown = min(tail, recent)
    assert reading.snapshot.last_ns == bench.memory.last_ns
    newer = reading.snapshot.entries[len(old.snapshot.entries) :]
    assert [entry.last_ns for entry in newer] == [2 * k * SECOND for k in range(11 - shown, 11)]
    assert reading.lag_slots == 3 - shown
    assert reading.memory_tokens == old.memory_tokens + shown * bench.features[0][1].shape[0]
    assert len(reading.generation.attention) == len(reading.snapshot.entries)
    assert reading.cached_tokens == len(model._prompt.before) + old.memory_tokens
    assert len(tokens) == 4
    again, tokens_again = bench.asked()
    assert again is not None
    assert (shown_of(again), tokens_again) == (shown_of(reading), tokens)


def test_memory_that_changes_faster_than_it_is_read_is_left_alone_until_it_rests(model: Qwen2VL) -> None:
    bench = Bench(model, replace(EAGER, max_chunk_tokens=50))
    bench.prefix.read_s = 0.5  # some two seconds for all of it
    for _ in range(20):
        for _ in range(2):
            bench.reader.background_prefill()
        bench.prefix.now += 0.2
        bench.see(1)
    begun = bench.prefix.shown
    assert begun < 10
    wait_s = bench.reader.background_prefill()
    assert wait_s is not None
    assert 0 < wait_s < 10
    bench.prefix.now += wait_s
    bench.warm_up()
    assert bench.prefix.shown == begun + 1
    assert bench.reader.status.until_ns == bench.memory.last_ns


def test_portions_take_about_as_long_as_is_allowed(model: Qwen2VL) -> None:
    bench = Bench(model, replace(EAGER, chunk_s=0.1))
    sizes: list[int] = []
    read = bench.prefix.prefill

    def at_2000_tokens_a_second(tokens: int) -> None:
        before = bench.prefix.cached_tokens
        read(tokens)
        sizes.append(bench.prefix.cached_tokens - before)
        bench.prefix.now += sizes[-1] / 2000

    bench.prefix.prefill = at_2000_tokens_a_second  # type: ignore[method-assign]
    bench.warm_up()
    assert sizes[0] == 64
    assert set(sizes[1:-1]) <= {199, 200}
    assert sum(sizes) == bench.reader.status.tokens


def test_memory_that_may_lag_is_read_to_the_end_and_then_not_at_every_slot(model: Qwen2VL) -> None:
    bench = Bench(model, replace(EAGER, max_chunk_tokens=50, max_lag_s=20.0))
    bench.reader.background_prefill(), bench.reader.background_prefill()
    bench.see(1)
    bench.warm_up()
    assert bench.prefix.shown == 1
    bench.see(4)  # 10 s behind: half of what is allowed
    bench.warm_up()
    assert bench.prefix.shown == 1
    bench.see(1)
    bench.warm_up()
    assert bench.prefix.shown == 2
    assert bench.reader.status.until_ns == bench.memory.last_ns


def test_a_stable_order_can_be_chosen_at_any_time_and_the_evidence_is_that_of_what_is_shown(model: Qwen2VL) -> None:
    bench = Bench(model, EAGER)
    bench.warm_up()
    bench.reader.config = replace(EAGER, stable_order=True)
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
    bench.reader.config = EAGER
    reading, tokens = bench.asked()
    uncached, expected = bench.asked_uncached()
    assert tokens == expected
    assert reading is not None
    assert reading.snapshot.entries == snapshot.entries
    assert uncached is not None
    assert list(reading.generation.attention) == pytest.approx(list(uncached.generation.attention), abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    share=st.sampled_from([0.01, 0.2, 0.5, 1.0]),
    units=st.lists(st.tuples(st.floats(0.001, 3.0), st.floats(0.0, 20.0)), min_size=1, max_size=60),
)
def test_reading_ahead_takes_no_more_than_its_share(share: float, units: list[tuple[float, float]]) -> None:
    now = 0.0
    allowance = BackgroundBudget(lambda: now)
    worked, longest = 0.0, 0.0
    for unit_s, idle_s in units:
        now += idle_s
        now += allowance.wait_s(share)
        assert allowance.wait_s(share) == pytest.approx(0.0, abs=1e-6)
        now += unit_s
        allowance.spend(unit_s)
        worked, longest = worked + unit_s, max(longest, unit_s)
        assert worked <= share * (now + BURST_WINDOW_S) + longest + 1e-6


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
def test_whatever_happens_between_answers_are_those_of_an_uncached_reader(
    model: Qwen2VL, steps: list[tuple[str, int]]
) -> None:
    bench = Bench(model, replace(EAGER, max_chunk_tokens=60), slots=3, horizon_slots=6)
    for step, number in [*steps, ("ask", 0)]:
        if step == "see":
            bench.see(number)
        elif step == "read ahead":
            for _ in range(number):
                bench.reader.background_prefill()
        elif step == "forget":
            bench.memory.forget(Scope(since_ns=2 * number * SECOND, until_ns=2 * (number + 3) * SECOND))
            bench.reader.note_memory_change()
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


def test_questions_and_frames_from_many_threads_are_answered_as_uncached_ones(model: Qwen2VL) -> None:
    """Whatever the engine had read by then, an answer is that of an uncached engine that saw the same."""
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
            engine.offer(Frame("camera", "camera_optical", second * SECOND, lambda second=second: picture(second)))
            wait_until(lambda: settled(engine))
            if second % 2 == 0:
                expected[second * SECOND] = ask(engine, "Where?")
    for answer in answers:
        uncached = expected[answer.covered_until_ns]
        assert_same(replace(uncached, newest_ns=answer.newest_ns), answer)


def test_a_model_that_keeps_nothing_is_asked_uncached(model: Qwen2VL) -> None:
    plain: VisionLanguageModel = Failing(model, "nothing", RuntimeError())  # type: ignore[assignment]
    with running(CONFIG, lambda: plain) as (engine, warnings):
        watch(engine, range(1, 9))
        assert [ask(engine).cached_tokens for _ in range(2)] == [0, 0]
        assert engine.status().prefix_cache == PrefixCacheStatus()
    assert not warnings
