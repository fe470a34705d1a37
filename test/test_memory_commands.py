"""Pause, reset, forget and list at the engine, in order with frames and questions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from tiny_engine import (
    CONFIG,
    ROOMY,
    SECOND,
    ask,
    balanced,
    entries,
    model,
    running,
    seconds_of,
    settled,
    wait_until,
    watch,
)

from flash_vstream_ros.engine.answering.question import ErrorCode, Question
from flash_vstream_ros.engine.control.command_queue import Command, NotReady
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.hooks import EngineHooks
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.engine.status import MemoryStats, slots_since
from flash_vstream_ros.memory.scope import BadScope, Scope
from flash_vstream_ros.models.interface import ModelError, VisionLanguageModel

__all__ = ["model"]  # fixtures


@pytest.fixture
def engine(model: VisionLanguageModel) -> Iterator[Engine]:
    with running(ROOMY, lambda: model) as (engine, _):
        yield engine


def forget(engine: Engine, since_s: int = 0, until_s: int = 0, cameras: tuple[str, ...] = ()) -> object:
    scope = Scope(cameras, since_s * SECOND, until_s * SECOND)
    return engine.submit(lambda commands: commands.forget(scope)).result(30.0)


def test_a_paused_engine_ingests_no_frames_and_answers_questions(engine: Engine) -> None:
    watch(engine, range(1, 5))
    assert engine.submit(MemoryCommands.pause).result(30.0)
    assert not engine.submit(MemoryCommands.pause).result(30.0)
    assert engine.status().paused
    watch(engine, range(5, 9))
    assert engine.status().memory.slots == 2
    assert dict(engine.status().frames.drops) == {"paused": 4}
    assert engine.status().frames.newest_ns == 8 * SECOND
    assert ask(engine).covered_until_ns == 4 * SECOND
    assert engine.submit(MemoryCommands.resume).result(30.0)
    assert not engine.submit(MemoryCommands.resume).result(30.0)
    watch(engine, range(9, 13))
    assert engine.status().memory.slots == 4
    assert not engine.status().paused
    assert balanced(engine.status().frames)


def test_a_reset_forgets_everything_including_stamps_and_grid(engine: Engine) -> None:
    watch(engine, range(100, 105))
    assert engine.submit(MemoryCommands.reset).result(30.0) == 2
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


def test_forgotten_slots_are_in_no_list_evidence_or_answer(engine: Engine) -> None:
    watch(engine, range(1, 21))
    images = {entry.thumbnail for entry in entries(engine, since_ns=7 * SECOND, until_ns=12 * SECOND)}
    assert len(images) == 3
    assert forget(engine, 8, 11) == (3, 3, 0)
    assert seconds_of(entries(engine)) == {*range(1, 7), *range(13, 21)}
    assert not images & {entry.thumbnail for entry in entries(engine)}
    answer = ask(engine)
    assert seconds_of(tuple(evidence.entry for evidence in answer.evidence)) <= {*range(1, 7), *range(13, 21)}
    assert ask(engine, scope=Scope(since_ns=7 * SECOND, until_ns=12 * SECOND)).error_code is ErrorCode.NO_FRAMES
    watch(engine, range(21, 23))
    assert engine.status().memory.slots == 11  # ingested, forgotten ones included


def test_a_frame_that_waits_for_its_pair_is_forgotten_too(engine: Engine) -> None:
    watch(engine, range(1, 6))
    forget(engine, 5)
    assert dict(engine.status().frames.drops) == {"forgotten": 1}
    watch(engine, range(6, 8))
    assert seconds_of(entries(engine)) == {1, 2, 3, 4, 6, 7}
    assert balanced(engine.status().frames)


def test_forgetting_one_camera_keeps_the_others(model: VisionLanguageModel) -> None:
    with running(replace(ROOMY, cameras=("front", "rear")), lambda: model) as (engine, _):
        watch(engine, range(1, 6), "front")
        watch(engine, range(1, 6), "rear")
        forget(engine, cameras=("front",))
        assert {entry.camera for entry in entries(engine)} == {"rear"}
        watch(engine, range(6, 7), "rear")
        wait_until(lambda: engine.status().memory.slots == 5)
        assert dict(engine.status().frames.drops) == {"forgotten": 1}


def test_forgetting_a_slot_that_a_running_answer_uses_cancels_the_answer(engine: Engine) -> None:
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
    engine.submit(MemoryCommands.reset).result(30.0)
    assert everything.answer(30.0).error_code is ErrorCode.CANCELLED


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        (Scope(), "unbounded"),
        (Scope(("rear",)), "unknown camera rear"),
        (Scope((), 5, 3), "since is later than until"),
        (Scope((), -5), "negative"),
    ],
)
def test_a_wrong_scope_is_refused_and_nothing_is_forgotten(engine: Engine, scope: Scope, message: str) -> None:
    watch(engine, range(1, 6))
    with pytest.raises(BadScope, match=message):
        engine.submit(lambda commands: commands.forget(scope)).result(30.0)
    assert engine.status().memory.entries == 4
    watch(engine, range(6, 7))
    assert engine.status().memory.slots == 3


def test_list_returns_the_entries_that_a_question_is_answered_from(engine: Engine) -> None:
    watch(engine, range(1, 21))
    everything, part = entries(engine), entries(engine, since_ns=7 * SECOND, until_ns=12 * SECOND)
    assert len(everything) == engine.status().memory.entries
    assert sum(entry.weight for entry in everything if entry.kind == 0) == 10
    assert seconds_of(part) == set(range(7, 13))
    assert all(entry.thumbnail[:2] == b"\xff\xd8" for entry in everything)
    with pytest.raises(BadScope):
        entries(engine, cameras=("nobody",))


def test_commands_run_in_order_between_frames_and_tokens(engine: Engine) -> None:
    watch(engine, range(1, 5))
    request = engine.ask(Question("a long story", max_new_tokens=60_000, deadline_s=60.0))
    next(iter(request))
    threads: list[int] = []
    futures = [engine.submit(lambda _, n=n: threads.append(threading.get_ident()) or n) for n in range(20)]
    assert [future.result(30.0) for future in futures] == list(range(20))
    assert set(threads) == {engine._thread.ident}
    assert not engine.idle
    engine.cancel_all()
    assert request.answer(30.0).error_code is ErrorCode.CANCELLED


def test_a_command_that_fails_or_is_cancelled_affects_no_other(engine: Engine) -> None:
    def fail(_: MemoryCommands) -> None:
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError):
        engine.submit(fail).result(30.0)
    release = threading.Event()
    busy = engine.submit(lambda _: release.wait(30.0))
    withdrawn = engine.submit(lambda _: pytest.fail("it was withdrawn"))
    assert withdrawn.cancel()
    release.set()
    assert busy.result(30.0)
    assert engine.submit(lambda _: "done").result(30.0) == "done"


def test_commands_are_refused_before_the_model_is_loaded_after_it_failed_and_after_the_end(
    model: VisionLanguageModel,
) -> None:
    release = threading.Event()

    def load() -> VisionLanguageModel:
        release.wait(30.0)
        raise ModelError("no such model")

    engine = Engine(CONFIG, load, EngineHooks(lambda _: None, lambda _: None))
    engine.start()
    with pytest.raises(NotReady, match="still loading"):
        engine.submit(MemoryCommands.pause).result(30.0)
    release.set()
    wait_until(lambda: engine.status().state == 2)
    with pytest.raises(NotReady, match="no such model"):
        engine.submit(MemoryCommands.pause).result(30.0)
    with running(CONFIG, lambda: model) as (engine, _):
        blocked = threading.Event()
        engine.submit(lambda _: blocked.wait(30.0))
        waiting = engine.submit(MemoryCommands.pause)
        stopping = threading.Thread(target=engine.stop)
        stopping.start()
        with pytest.raises(NotReady, match="shutting down"):
            waiting.result(30.0)
        blocked.set()
        stopping.join()
        with pytest.raises(NotReady, match="was shut down"):
            engine.submit(MemoryCommands.pause).result(30.0)


def test_an_inactive_engine_runs_commands_and_one_without_a_worker_says_what_to_do(
    model: VisionLanguageModel,
) -> None:
    engine = Engine(
        CONFIG, lambda: model, EngineHooks(lambda _: None, lambda _: None, lambda state: f" [{state.name}]")
    )
    with pytest.raises(NotReady, match=r"not configured.*\[UNCONFIGURED\]"):
        engine.submit(MemoryCommands.reset).result(30.0)
    engine.start()
    assert engine.wait_until_loaded()
    assert engine.submit(MemoryCommands.pause).result(30.0)
    engine.activate()
    engine.deactivate()
    assert engine.submit(MemoryCommands.reset).result(30.0) == 0
    assert engine.submit(MemoryCommands.resume).result(30.0)
    assert engine.state is State.INACTIVE
    engine.stop()
    with pytest.raises(NotReady, match=r"\[FINALIZED\]"):
        engine.submit(MemoryCommands.reset).result(30.0)


def test_the_status_is_published_before_the_caller_gets_the_result() -> None:
    events: list[str] = []
    command = Command(lambda target: target.append("done"))
    command.future.add_done_callback(lambda _: events.append("resolved"))
    command.run(events)
    events.append("published")
    command.resolve()
    assert events == ["done", "published", "resolved"]


def test_new_slots_have_a_since_stamp_unless_stamps_jumped_or_slots_were_forgotten(engine: Engine) -> None:
    start = engine.status()
    watch(engine, range(100, 105))
    first = engine.status()
    assert slots_since(first, first) is None
    new = slots_since(start, first)
    assert new is not None
    assert (new.slots, new.frames, new.since_ns, new.until_ns) == (2, 5, 0, 103 * SECOND)
    watch(engine, range(105, 109))
    second = engine.status()
    new = slots_since(first, second)
    assert new is not None
    assert (new.slots, new.since_ns, new.until_ns) == (2, 103 * SECOND + 1, 107 * SECOND)
    assert 0 <= new.novelty <= 1
    watch(engine, range(50, 60))
    third = engine.status()
    new = slots_since(second, third)
    assert new is not None
    assert (new.since_ns, new.until_ns) == (0, 0)
    engine.submit(MemoryCommands.reset).result(30.0)
    assert slots_since(third, engine.status()) is None
    assert engine.status().memory == replace(
        MemoryStats(),
        capacity=90,
        revision=engine.status().memory.revision,
        encode_s=third.memory.encode_s,
        update_s=third.memory.update_s,
    )
    watch(engine, range(1, 3))
    new = slots_since(third, engine.status())
    assert new is not None
    assert (new.slots, new.since_ns, new.until_ns) == (1, 0, 0)
