"""Jumps of the stamps in the engine: frames are dropped, the memory is reset, or it is forked."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from tiny_engine import (
    ROOMY,
    SECOND,
    Failing,
    ask,
    balanced,
    entries,
    image,
    model,
    running,
    seconds_of,
    settled,
    wait_until,
    watch,
)

from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.ingest.stamps import JumpBack
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.interface import VisionLanguageModel

__all__ = ["model"]  # fixtures


def jumping(choice: JumpBack, **changes: object) -> EngineConfig:
    return replace(ROOMY, on_jump_back=choice, **changes)  # type: ignore[arg-type]


def test_with_ignore_frames_of_a_looping_bag_are_dropped(model: VisionLanguageModel) -> None:
    with running(jumping(JumpBack.IGNORE), lambda: model) as (engine, warnings):
        watch(engine, range(100, 110))
        watch(engine, range(50, 70))
        status = engine.status()
        assert dict(status.frames.drops) == {"stamp_not_newer": 20}
        assert (status.memory.slots, status.frames.jumps_back) == (5, 1)
        watch(engine, range(110, 112))
        assert engine.status().memory.slots == 6
    assert sum("jumped back" in warning for warning in warnings) == 1


def test_with_reset_a_looping_bag_starts_a_new_memory(model: VisionLanguageModel) -> None:
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


def test_with_fork_a_looping_bag_is_appended_after_its_earlier_slots(model: VisionLanguageModel) -> None:
    with running(jumping(JumpBack.FORK), lambda: model) as (engine, _):
        for _ in range(3):
            watch(engine, range(100, 110))
        status = engine.status()
        assert dict(status.frames.drops) == {"stamp_not_newer": 4}
        assert (status.memory.slots, status.frames.jumps_back) == (13, 2)
        assert (status.memory.first_ns, status.memory.last_ns) == (100 * SECOND, 109 * SECOND)
        assert status.memory.newest_ns == 109 * SECOND
        snapshot = engine.submit(lambda commands: commands._memory.snapshot()).result(30.0)
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
        snapshot = engine.submit(lambda commands: commands._memory.snapshot()).result(30.0)
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


def test_a_jump_back_of_one_camera_does_not_affect_the_others(model: VisionLanguageModel) -> None:
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
        # the frame from the future, and those before the return was confirmed
        assert dict(status.frames.drops) == {"stamp_not_newer": 3, "unpaired": 1}
        assert max(seconds_of(entries(engine))) == 124
        assert min(seconds_of(entries(engine))) == 100
        assert balanced(status.frames)


def test_a_jump_back_during_a_pause_is_followed(model: VisionLanguageModel) -> None:
    with running(jumping(JumpBack.FORK), lambda: model) as (engine, _):
        watch(engine, range(100, 110))
        engine.submit(MemoryCommands.pause).result(30.0)
        for _ in range(3):
            watch(engine, range(50, 60))
        engine.submit(MemoryCommands.resume).result(30.0)
        watch(engine, range(60, 70))
        assert engine.status().memory.slots == 10
        assert seconds_of(entries(engine)) == {*range(100, 110), *range(60, 70)}
        assert balanced(engine.status().frames)


def test_frames_before_and_after_a_jump_are_never_paired(model: VisionLanguageModel) -> None:
    """The busy worker gets none of the frames at the jump: two wait, and later frames replace them."""
    with running(jumping(JumpBack.FORK), lambda: model) as (engine, _):
        watch(engine, range(100, 104))
        held, release = threading.Event(), threading.Event()
        engine.submit(lambda _: held.set() or release.wait(30.0))
        assert held.wait(30.0)
        for second in (104, 105, *range(50, 60)):
            engine.offer(Frame("camera", "", second * SECOND, lambda second=second: image(second)))
        release.set()
        wait_until(lambda: settled(engine))
        watch(engine, range(60, 61))
        assert seconds_of(entries(engine)) == {*range(100, 106), 59, 60}


def test_a_jump_is_followed_even_if_its_first_slot_fails(model: VisionLanguageModel) -> None:
    failing = Failing(model, "encode_slots", RuntimeError("no room"))
    with running(jumping(JumpBack.FORK), lambda: failing) as (engine, _):  # type: ignore[arg-type, return-value]
        watch(engine, range(100, 104))
        watch(engine, range(50, 56))
        assert seconds_of(entries(engine)) == {102, 103, 52, 53, 54, 55}
