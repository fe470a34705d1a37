"""Pause, reset, forget and list at the engine, and time that jumps: in order with frames and questions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from test_engine import CONFIG, SECOND, Failing, ask, picture, running, settled, wait_until, watch

from flash_vstream_ros.engine.answering.question import ErrorCode, Question
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.control.command_queue import Command, NotReady
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine, EngineHooks
from flash_vstream_ros.engine.ingest.mailbox import Frame, FrameCounts
from flash_vstream_ros.engine.ingest.stamps import JumpBack
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.engine.status import MemoryStats, news
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.scope import BadScope, Scope
from flash_vstream_ros.memory.slot import MemoryEntry
from flash_vstream_ros.models.interface import ModelError, VisionLanguageModel
from flash_vstream_ros.models.load import load_model

ROOMY = replace(CONFIG, memory=FlashMemoryConfig(csm_slots=60, dam_slots=30))


@pytest.fixture(scope="module")
def model() -> VisionLanguageModel:
    return load_model("tiny-random", device="cpu", max_pixels=112 * 112)


@pytest.fixture
def engine(model: VisionLanguageModel) -> Iterator[Engine]:
    with running(ROOMY, lambda: model) as (engine, _):
        yield engine


def entries(engine: Engine, **bounds: object) -> tuple[MemoryEntry, ...]:
    return engine.order(lambda commands: commands.entries(Scope(**bounds))).result(30.0)  # type: ignore[arg-type]


def forget(engine: Engine, since_s: int = 0, until_s: int = 0, cameras: tuple[str, ...] = ()) -> object:
    scope = Scope(cameras, since_s * SECOND, until_s * SECOND)
    return engine.order(lambda commands: commands.forget(scope)).result(30.0)


def seconds_of(entries: tuple[MemoryEntry, ...]) -> set[int]:
    return {stamp // SECOND for entry in entries for stamp in (entry.first_ns, entry.last_ns)}


def balanced(counts: FrameCounts) -> bool:
    return counts.received == counts.encoded + counts.gated + counts.dropped + counts.pending


def test_a_paused_engine_takes_nothing_in_and_goes_on_answering(engine: Engine) -> None:
    watch(engine, range(1, 5))
    assert engine.order(MemoryCommands.pause).result(30.0)
    assert not engine.order(MemoryCommands.pause).result(30.0)
    assert engine.status().paused
    watch(engine, range(5, 9))
    assert engine.status().memory.slots == 2
    assert dict(engine.status().frames.drops) == {"paused": 4}
    assert engine.status().frames.newest_ns == 8 * SECOND
    assert ask(engine).covered_until_ns == 4 * SECOND
    assert engine.order(MemoryCommands.resume).result(30.0)
    assert not engine.order(MemoryCommands.resume).result(30.0)
    watch(engine, range(9, 13))
    assert engine.status().memory.slots == 4
    assert not engine.status().paused
    assert balanced(engine.status().frames)


def test_resetting_forgets_everything_time_and_size_included(engine: Engine) -> None:
    watch(engine, range(100, 105))
    assert engine.order(MemoryCommands.reset).result(30.0) == 2
    status = engine.status()
    assert (status.memory.slots, status.memory.entries, status.memory.bytes) == (0, 0, 0)
    assert dict(status.frames.drops) == {"forgotten": 1}  # the fifth frame waited for its pair
    assert status.frames.newest_ns == 0
    assert balanced(status.frames)
    refusal = ask(engine)
    assert refusal.error_code is ErrorCode.NO_FRAMES
    for second in range(1, 5):  # earlier stamps, another shape
        engine.offer(Frame("camera", "", second * SECOND, lambda: np.zeros((200, 90, 3), np.uint8)))
        wait_until(lambda: settled(engine))
    assert engine.status().memory.slots == 2
    assert (ask(engine).covered_since_ns, ask(engine).covered_until_ns) == (SECOND, 4 * SECOND)


def test_what_is_forgotten_is_in_no_list_no_evidence_and_no_answer(engine: Engine) -> None:
    watch(engine, range(1, 21))
    pictures = {entry.thumbnail for entry in entries(engine, since_ns=7 * SECOND, until_ns=12 * SECOND)}
    assert len(pictures) == 3
    assert forget(engine, 8, 11) == (3, 3, 0)
    assert seconds_of(entries(engine)) == {*range(1, 7), *range(13, 21)}
    assert not pictures & {entry.thumbnail for entry in entries(engine)}
    answer = ask(engine)
    assert seconds_of(tuple(evidence.entry for evidence in answer.evidence)) <= {*range(1, 7), *range(13, 21)}
    assert ask(engine, scope=Scope(since_ns=7 * SECOND, until_ns=12 * SECOND)).error_code is ErrorCode.NO_FRAMES
    watch(engine, range(21, 23))
    assert engine.status().memory.slots == 11  # taken in, forgotten ones included


def test_the_frame_that_waits_for_its_pair_is_forgotten_too(engine: Engine) -> None:
    watch(engine, range(1, 6))
    forget(engine, 5)
    assert dict(engine.status().frames.drops) == {"forgotten": 1}
    watch(engine, range(6, 8))
    assert seconds_of(entries(engine)) == {1, 2, 3, 4, 6, 7}
    assert balanced(engine.status().frames)


def test_one_camera_is_forgotten_and_the_other_stays(model: VisionLanguageModel) -> None:
    with running(replace(ROOMY, cameras=("front", "rear")), lambda: model) as (engine, _):
        watch(engine, range(1, 6), "front")
        watch(engine, range(1, 6), "rear")
        forget(engine, cameras=("front",))
        assert {entry.camera for entry in entries(engine)} == {"rear"}
        watch(engine, range(6, 7), "rear")
        wait_until(lambda: engine.status().memory.slots == 5)
        assert dict(engine.status().frames.drops) == {"forgotten": 1}


def test_an_answer_under_way_ends_when_what_it_was_made_from_is_forgotten(engine: Engine) -> None:
    watch(engine, range(1, 9))
    recent = engine.ask(Question("a long story", Scope(since_ns=5 * SECOND), max_new_tokens=60_000, deadline_s=60.0))
    next(iter(recent))
    forget(engine, 1, 2)
    assert not engine.idle
    forget(engine, 7, 8)
    answer = recent.answer(30.0)
    assert answer.error_code is ErrorCode.CANCELLED
    assert "forgotten" in answer.error_msg
    assert not answer.text
    assert not answer.evidence
    everything = engine.ask(Question("a long story", max_new_tokens=60_000, deadline_s=60.0))
    next(iter(everything))
    engine.order(MemoryCommands.reset).result(30.0)
    assert everything.answer(30.0).error_code is ErrorCode.CANCELLED


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        (Scope(), "unbounded"),
        (Scope(("rear",)), "unknown camera rear"),
        (Scope((), 5, 3), "since lies after until"),
        (Scope((), -5), "negative"),
    ],
)
def test_a_wrong_selection_is_refused_and_nothing_is_forgotten(engine: Engine, scope: Scope, message: str) -> None:
    watch(engine, range(1, 6))
    with pytest.raises(BadScope, match=message):
        engine.order(lambda commands: commands.forget(scope)).result(30.0)
    assert engine.status().memory.entries == 4
    watch(engine, range(6, 7))
    assert engine.status().memory.slots == 3


def test_the_list_is_what_a_question_is_answered_from(engine: Engine) -> None:
    watch(engine, range(1, 21))
    everything, part = entries(engine), entries(engine, since_ns=7 * SECOND, until_ns=12 * SECOND)
    assert len(everything) == engine.status().memory.entries
    assert sum(entry.weight for entry in everything if entry.kind == 0) == 10
    assert seconds_of(part) == set(range(7, 13))
    assert all(entry.thumbnail[:2] == b"\xff\xd8" for entry in everything)
    with pytest.raises(BadScope):
        entries(engine, cameras=("nobody",))


def test_orders_are_carried_out_between_frames_and_tokens_in_their_order(engine: Engine) -> None:
    watch(engine, range(1, 5))
    request = engine.ask(Question("a long story", max_new_tokens=60_000, deadline_s=60.0))
    next(iter(request))
    threads: list[int] = []
    orders = [engine.order(lambda _, n=n: threads.append(threading.get_ident()) or n) for n in range(20)]
    assert [order.result(30.0) for order in orders] == list(range(20))
    assert set(threads) == {engine._thread.ident}
    assert not engine.idle
    engine.cancel_all()
    assert request.answer(30.0).error_code is ErrorCode.CANCELLED


def test_an_order_that_fails_or_is_withdrawn_costs_nobody_else(engine: Engine) -> None:
    def fail(_: MemoryCommands) -> None:
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError):
        engine.order(fail).result(30.0)
    release = threading.Event()
    busy = engine.order(lambda _: release.wait(30.0))
    withdrawn = engine.order(lambda _: pytest.fail("it was withdrawn"))
    assert withdrawn.cancel()
    release.set()
    assert busy.result(30.0)
    assert engine.order(lambda _: "done").result(30.0) == "done"


def test_orders_are_refused_before_the_model_is_there_after_it_failed_and_after_the_end(
    model: VisionLanguageModel,
) -> None:
    release = threading.Event()

    def load() -> VisionLanguageModel:
        release.wait(30.0)
        raise ModelError("no such model")

    engine = Engine(CONFIG, load, EngineHooks(lambda _: None, lambda _: None))
    engine.start()
    with pytest.raises(NotReady, match="still loading"):
        engine.order(MemoryCommands.pause).result(30.0)
    release.set()
    wait_until(lambda: engine.status().state == 2)
    with pytest.raises(NotReady, match="no such model"):
        engine.order(MemoryCommands.pause).result(30.0)
    with running(CONFIG, lambda: model) as (engine, _):
        blocked = threading.Event()
        engine.order(lambda _: blocked.wait(30.0))
        waiting = engine.order(MemoryCommands.pause)
        stopping = threading.Thread(target=engine.stop)
        stopping.start()
        with pytest.raises(NotReady, match="shutting down"):
            waiting.result(30.0)
        blocked.set()
        stopping.join()
        with pytest.raises(NotReady, match="was shut down"):
            engine.order(MemoryCommands.pause).result(30.0)


def test_an_engine_at_rest_still_does_what_is_ordered_and_without_a_worker_says_what_to_do(
    model: VisionLanguageModel,
) -> None:
    engine = Engine(
        CONFIG, lambda: model, EngineHooks(lambda _: None, lambda _: None, lambda state: f" [{state.name}]")
    )
    with pytest.raises(NotReady, match=r"not configured.*\[UNCONFIGURED\]"):
        engine.order(MemoryCommands.reset).result(30.0)
    engine.start()
    assert engine.wait_until_loaded()
    assert engine.order(MemoryCommands.pause).result(30.0)
    engine.activate()
    engine.deactivate()
    assert engine.order(MemoryCommands.reset).result(30.0) == 0
    assert engine.order(MemoryCommands.resume).result(30.0)
    assert engine.state is State.INACTIVE
    engine.stop()
    with pytest.raises(NotReady, match=r"\[FINALIZED\]"):
        engine.order(MemoryCommands.reset).result(30.0)


def test_the_status_is_published_before_anybody_hears_of_the_result() -> None:
    events: list[str] = []
    command = Command(lambda target: target.append("done"))
    command.future.add_done_callback(lambda _: events.append("resolved"))
    command.run(events)
    events.append("published")
    command.resolve()
    assert events == ["done", "published", "resolved"]


def jumping(choice: JumpBack, **changes: object) -> EngineConfig:
    return replace(ROOMY, on_jump_back=choice, **changes)  # type: ignore[arg-type]


def test_frames_of_a_bag_that_loops_are_dropped_where_that_is_asked_for(model: VisionLanguageModel) -> None:
    with running(jumping(JumpBack.IGNORE), lambda: model) as (engine, warnings):
        watch(engine, range(100, 110))
        watch(engine, range(50, 70))
        status = engine.status()
        assert dict(status.frames.drops) == {"stamp_not_newer": 20}
        assert (status.memory.slots, status.frames.jumps_back) == (5, 1)
        watch(engine, range(110, 112))
        assert engine.status().memory.slots == 6
    assert sum("jumped back" in warning for warning in warnings) == 1


def test_a_bag_that_loops_starts_a_new_memory_where_that_is_asked_for(model: VisionLanguageModel) -> None:
    with running(jumping(JumpBack.RESET), lambda: model) as (engine, warnings):
        watch(engine, range(100, 111))
        watch(engine, range(50, 62))
        status = engine.status()
        assert dict(status.frames.drops) == {"stamp_not_newer": 2, "unpaired": 1}
        assert status.frames.jumps_back == 1
        assert seconds_of(entries(engine)) == set(range(52, 62))
        assert (ask(engine).covered_since_ns, ask(engine).covered_until_ns) == (52 * SECOND, 61 * SECOND)
        assert balanced(status.frames)
    assert sum("jumped back by 58.0 s" in warning for warning in warnings) == 1


def test_a_bag_that_loops_goes_on_behind_its_memory_where_that_is_asked_for(model: VisionLanguageModel) -> None:
    with running(jumping(JumpBack.FORK), lambda: model) as (engine, _):
        for _ in range(3):
            watch(engine, range(100, 110))
        status = engine.status()
        assert dict(status.frames.drops) == {"stamp_not_newer": 4}
        assert (status.memory.slots, status.frames.jumps_back) == (13, 2)
        assert (status.memory.first_ns, status.memory.last_ns) == (100 * SECOND, 109 * SECOND)
        assert status.memory.newest_ns == 109 * SECOND
        snapshot = engine.order(lambda commands: commands._memory.snapshot()).result(30.0)
        assert snapshot.csm_times.tolist() == list(range(13))
        twice = entries(engine, since_ns=104 * SECOND, until_ns=105 * SECOND)
        assert seconds_of(twice) == {104, 105}
        assert sum(entry.kind == 0 for entry in twice) == 3
        answer = ask(engine, scope=Scope(since_ns=104 * SECOND, until_ns=105 * SECOND))
        assert (answer.covered_since_ns, answer.covered_until_ns) == (104 * SECOND, 105 * SECOND)


@pytest.mark.parametrize("choice", [JumpBack.RESET, JumpBack.FORK])
def test_cameras_on_one_clock_jump_together_and_stay_in_step(model: VisionLanguageModel, choice: JumpBack) -> None:
    with running(jumping(choice, cameras=("front", "rear")), lambda: model) as (engine, _):
        for stamps in (range(100, 120), range(20, 40)):
            for second in stamps:
                watch(engine, range(second, second + 1), "front")
                watch(engine, range(second, second + 1), "rear")
        status = engine.status()
        snapshot = engine.order(lambda commands: commands._memory.snapshot()).result(30.0)
        csm = [entry for entry in snapshot.entries if entry.kind == 0]
        assert dict(status.frames.drops) == {"stamp_not_newer": 4}
        assert (status.frames.jumps_back, status.memory.slots) == (2, 38)
        again = {"front": [], "rear": []}
        for entry, time_id in zip(csm, snapshot.csm_times.tolist(), strict=True):
            if entry.first_ns < 100 * SECOND:
                again[entry.camera].append(time_id)
        assert again["front"] == again["rear"]
        assert len(again["front"]) == 9
        assert len(csm) == (18 if choice is JumpBack.RESET else 38)


def test_a_clock_set_back_on_one_camera_leaves_the_other_alone(model: VisionLanguageModel) -> None:
    with running(jumping(JumpBack.RESET, cameras=("front", "rear")), lambda: model) as (engine, _):
        for second in range(100, 110):
            watch(engine, range(second, second + 1), "front")
            watch(engine, range(second - 90, second - 89), "rear")
        watch(engine, range(50, 62), "front")
        assert seconds_of(entries(engine, cameras=("front",))) == set(range(52, 62))
        assert seconds_of(entries(engine, cameras=("rear",))) == set(range(10, 20))


@pytest.mark.parametrize("choice", list(JumpBack))
def test_a_late_frame_and_one_from_the_future_change_nothing(model: VisionLanguageModel, choice: JumpBack) -> None:
    with running(jumping(choice), lambda: model) as (engine, _):
        watch(engine, range(100, 110))
        watch(engine, range(20, 21))
        watch(engine, range(110, 115))
        watch(engine, range(9999, 10_000))
        watch(engine, range(115, 125))
        status = engine.status()
        assert status.frames.jumps_back == 0
        # the frame from the future, and those that came before that was certain
        assert dict(status.frames.drops) == {"stamp_not_newer": 3, "unpaired": 1}
        assert max(seconds_of(entries(engine))) == 124
        assert min(seconds_of(entries(engine))) == 100
        assert balanced(status.frames)


def test_a_jump_is_followed_by_frames_that_come_after_a_pause(model: VisionLanguageModel) -> None:
    with running(jumping(JumpBack.FORK), lambda: model) as (engine, _):
        watch(engine, range(100, 110))
        engine.order(MemoryCommands.pause).result(30.0)
        for _ in range(3):
            watch(engine, range(50, 60))
        engine.order(MemoryCommands.resume).result(30.0)
        watch(engine, range(60, 70))
        assert engine.status().memory.slots == 10
        assert seconds_of(entries(engine)) == {*range(100, 110), *range(60, 70)}
        assert balanced(engine.status().frames)


def test_frames_offered_at_once_after_a_jump_are_still_told_from_those_before(model: VisionLanguageModel) -> None:
    """The worker sees none of the frames that told of the jump: it is busy, two wait, and they replace each other."""
    with running(jumping(JumpBack.FORK), lambda: model) as (engine, _):
        watch(engine, range(100, 104))
        held, release = threading.Event(), threading.Event()
        engine.order(lambda _: held.set() or release.wait(30.0))
        assert held.wait(30.0)
        for second in (104, 105, *range(50, 60)):
            engine.offer(Frame("camera", "", second * SECOND, lambda second=second: picture(second)))
        release.set()
        wait_until(lambda: settled(engine))
        watch(engine, range(60, 61))
        assert seconds_of(entries(engine)) == {*range(100, 106), 59, 60}


def test_news_are_bounded_by_stamps_unless_time_jumped_or_something_was_forgotten(engine: Engine) -> None:
    start = engine.status()
    watch(engine, range(100, 105))
    first = engine.status()
    assert news(first, first) is None
    fresh = news(start, first)
    assert fresh is not None
    assert (fresh.slots, fresh.frames, fresh.since_ns, fresh.until_ns) == (2, 5, 0, 103 * SECOND)
    watch(engine, range(105, 109))
    second = engine.status()
    fresh = news(first, second)
    assert fresh is not None
    assert (fresh.slots, fresh.since_ns, fresh.until_ns) == (2, 103 * SECOND + 1, 107 * SECOND)
    assert 0 <= fresh.novelty <= 1
    watch(engine, range(50, 60))
    third = engine.status()
    fresh = news(second, third)
    assert fresh is not None
    assert (fresh.since_ns, fresh.until_ns) == (0, 0)
    engine.order(MemoryCommands.reset).result(30.0)
    assert news(third, engine.status()) is None
    assert engine.status().memory == replace(
        MemoryStats(),
        capacity=90,
        revision=engine.status().memory.revision,
        encode_s=third.memory.encode_s,
        update_s=third.memory.update_s,
    )
    watch(engine, range(1, 3))
    fresh = news(third, engine.status())
    assert fresh is not None
    assert (fresh.slots, fresh.since_ns, fresh.until_ns) == (1, 0, 0)


def test_a_slot_that_fails_does_not_keep_a_jump_from_being_followed(model: VisionLanguageModel) -> None:
    failing = Failing(model, "encode_slots", RuntimeError("no room"))
    with running(jumping(JumpBack.FORK), lambda: failing) as (engine, _):  # type: ignore[arg-type, return-value]
        watch(engine, range(100, 104))
        watch(engine, range(50, 56))
        assert seconds_of(entries(engine)) == {102, 103, 52, 53, 54, 55}
