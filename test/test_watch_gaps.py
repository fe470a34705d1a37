"""Watches that wait for their check, and watches whose cameras have stopped: what they say, and what they do not do."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import replace
from itertools import count

import pytest
from memory_slots import SECOND, tiny  # noqa: F401
from tiny_engine import CONFIG, model, running, wait_until, watch
from watch_bench import ALWAYS, LIMITS, TEXT, Bench

from flash_vstream_ros.engine.answering.question import Question
from flash_vstream_ros.engine.newest_frames import Age, NewestFrames
from flash_vstream_ros.engine.watches.hysteresis import Change, Phase
from flash_vstream_ros.engine.watches.slot_questions import View
from flash_vstream_ros.engine.watches.watch import Watch, WatchConfig
from flash_vstream_ros.engine.watches.watch_state import WatchState
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.qwen2_vl import Qwen2VL
from flash_vstream_ros.models.yes_no import YesNo

__all__ = ["model"]  # a fixture

BEGAN = Change.BEGAN


@pytest.fixture
def bench(tiny: Qwen2VL) -> Bench:  # noqa: F811
    return Bench(tiny)


@pytest.mark.parametrize(
    ("share", "message"),
    [(1.0, "cannot keep its period of 0.5 s, its check is 5 periods late"), (0.0, "watch.device_share is 0; raise it")],
)
def test_a_watch_that_waits_says_so_while_it_does_and_its_count_stays(
    tiny: Qwen2VL,  # noqa: F811
    share: float,
    message: str,
) -> None:
    bench = Bench(tiny, WatchConfig(device_share=share))
    bench.watches.add(Watch("it", TEXT, period_s=0.5))
    bench.see()

    def let_pass(seconds: float) -> None:
        """The worker is busy with something else, or may not check."""
        bench.now += seconds
        if share:
            bench.watches.note_waiting()
        else:
            assert bench.watches.check() != 0.0

    let_pass(0.0)
    assert (bench.watches.status.missed, bench.log) == (0, [])
    let_pass(2.6)
    (status,) = bench.watches.status.watches
    assert (status.missed, status.checks, bench.watches.status.missed) == (5, 0, 5)
    assert message in status.problem
    assert bench.log == [f"watch it: {status.problem}"]
    let_pass(0.2)
    assert len(bench.log) == 1  # not at every step of the worker
    bench.watches.suspend()
    bench.now += 60.0  # not missed: the node is inactive
    let_pass(0.0)
    let_pass(1.2)
    assert bench.watches.status.missed == 7
    bench.watches.config = LIMITS
    bench.see()
    bench.check(0.1)
    (status,) = bench.watches.status.watches
    assert (status.missed, status.checks, bench.watches.status.missed) == (7, 1, 7)
    assert "the last check was 2 periods late" in status.problem
    bench.check(0.5)
    assert (bench.watches.status.watches[0].problem, bench.watches.status.missed) == ("", 7)
    bench.now += 5.0
    bench.watches.remove("it")
    assert bench.watches.status.missed > 7


def test_the_engine_reports_a_watch_that_waits_while_it_answers(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, warnings):
        watch(engine, range(1, 5))
        answering = deque(engine.ask(Question("Why?", max_new_tokens=64)) for _ in range(CONFIG.question_queue))
        engine.submit(lambda commands: commands.watches.add(Watch("it", TEXT, period_s=0.05))).result(30.0)

        def is_reported() -> bool:
            if answering[0].is_finished:
                answering.popleft()
                answering.append(engine.ask(Question("Why?", max_new_tokens=64)))
            return bool(engine.status().watches.missed)

        wait_until(is_reported)
        (status,) = engine.status().watches.watches
        assert (status.checks, "cannot keep its period of 0.05 s" in status.problem) == (0, True)
        assert sum("watch it: it cannot keep its period" in line for line in warnings) == 1
        for each in answering:
            each.cancel()
        wait_until(lambda: engine.status().watches.watches[0].checks > 0)
        assert engine.status().watches.missed >= status.missed


def test_the_age_of_the_newest_frame_is_that_of_the_frame_received_last() -> None:
    now = 100.0
    frames = NewestFrames(lambda: now)
    assert frames.age("camera", 1, 2.0) == Age(math.inf, 6.0)
    assert frames.age("camera", 1, 2.0).is_old
    for stamp_ns, interval_s in ((1, 0.0), (2, 10.0), (3, 8.0)):
        now += interval_s
        frames.note("camera", stamp_ns)
        assert not frames.age("camera", stamp_ns, 2.0).is_old
    now += 20.0
    assert frames.age("camera", 3, 2.0) == Age(20.0, 24.0)  # a slow camera
    assert frames.age("camera", 2, 2.0).is_old  # newer frames were forgotten
    now += 3600.0
    frames.note("camera", 4)
    now += 25.0
    assert frames.age("camera", 4, 2.0).is_old  # a long gap does not make it a slower camera


def test_a_camera_that_stops_is_reported_and_neither_begins_nor_ends_an_event(bench: Bench) -> None:
    bench.watches.add(ALWAYS)
    bench.watches.add(replace(ALWAYS, id="held", hold_s=3.0))
    bench.see()
    bench.check()
    assert [(event.watch.id, event.change) for event in bench.events] == [("it", BEGAN)]
    for _ in range(30):
        bench.check()
    first, held = bench.watches.status.watches
    assert (first.active, first.probability > 0, held.active) == (True, True, False)
    for status in (first, held):
        assert (
            "camera camera has stopped: its newest frame was 31 s old at the last check, more than 6 s"
            in status.problem
        )
        assert status.checks == 6  # at ages of 1 to 6 s
        assert f"watch {status.watch.id}: {status.problem}" in bench.log
    bench.slots += 15  # the camera is back, with stamps 30 s later
    bench.see()
    bench.check()
    assert [status.problem for status in bench.watches.status.watches] == ["", ""]
    assert len(bench.events) == 1  # nobody knows if it was there for 3 s
    for _ in range(2):
        bench.see()
        bench.check(2.0)
    assert [(event.watch.id, event.change) for event in bench.events[1:]] == [("held", BEGAN)]


def test_a_camera_that_never_sent_is_reported_until_it_does(bench: Bench) -> None:
    bench.watches.add(ALWAYS)
    bench.check()
    assert (bench.watches.status.watches[0].problem, bench.log) == ("", [])  # it may have started just now
    for _ in range(10):
        bench.check()
    (status,) = bench.watches.status.watches
    assert "the memory has had no frame of camera camera for 10 s" in status.problem
    assert "check its publisher" in status.problem
    assert (status.checks, bench.events) == (0, [])
    assert any(f"watch it: {status.problem}"[:60] in line for line in bench.log)
    bench.see()
    bench.check()
    assert bench.watches.status.watches[0].problem == ""
    assert [event.change for event in bench.events] == [BEGAN]


def test_frames_of_a_restored_memory_raise_no_event(bench: Bench) -> None:
    bench.watches.add(ALWAYS)
    bench.see(is_received=False)
    bench.check()
    (status,) = bench.watches.status.watches
    assert (status.active, bench.events) == (False, [])
    assert "it has sent no frame since the memory was restored" in status.problem
    bench.see()
    bench.check()
    assert [event.change for event in bench.events] == [BEGAN]


@pytest.mark.parametrize(("is_active", "strongest"), [(True, "left"), (False, "right")])
def test_a_camera_that_stopped_holds_its_event_and_raises_none(is_active: bool, strongest: str) -> None:
    old = View((1,), 1, YesNo(0.9, 0.1), Age(7.0, 6.0))
    state = WatchState(Watch("it", TEXT), 0.0, Phase(is_active))
    state.views = {"left": old, "right": View((2,), 2, YesNo(0.1, 0.9), Age(1.0, 6.0))}
    assert (state.is_held, list(state.current)) == (is_active, ["right"])
    assert state.strongest is not None
    assert state.strongest[0] == strongest
    assert "camera left has stopped" in state.stopped
    assert "right" not in state.stopped


def test_a_check_that_was_interrupted_for_long_begins_again(bench: Bench) -> None:
    bench.watches.add(ALWAYS)
    bench.see()
    bench.now += 1.0
    assert [bench.watches.check() for _ in range(3)] == [0.0] * 3  # the slot is in the prefix
    assert not bench.events
    bench.now += 60.0
    bench.see(1)
    bench.check(0.0)
    assert [event.stamp_ns for event in bench.events] == [4 * SECOND]


def test_the_engine_knows_how_old_the_newest_frame_is(model: VisionLanguageModel) -> None:
    step_ns = SECOND // 10
    with running(replace(CONFIG, sample_fps=10.0), lambda: model) as (engine, _):
        engine.submit(lambda commands: commands.watches.add(replace(ALWAYS, period_s=0.2))).result(30.0)
        numbers = count(1)

        def has_stopped() -> bool:
            return "camera camera has stopped" in engine.status().watches.watches[0].problem

        def is_active() -> bool:
            watch(engine, range(first := next(numbers), first + 1), step_ns=step_ns)
            time.sleep(0.1)  # the worker checks while no frame waits
            return engine.status().watches.watches[0].active and not has_stopped()

        wait_until(is_active)
        wait_until(has_stopped)
        assert engine.status().watches.watches[0].active
        wait_until(is_active)
