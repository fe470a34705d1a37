"""Rates and limits changed while the engine runs: each takes effect, and nothing is lost."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import pytest
from tiny_engine import CONFIG, SECOND, ask, image, model, running, settled, wait_until, watch

from flash_vstream_ros.engine.answering.question import ErrorCode, Question
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.hooks import EngineHooks
from flash_vstream_ros.engine.ingest.mailbox import Frame, Mailbox
from flash_vstream_ros.engine.status import MemoryStats
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.models.interface import VisionLanguageModel

__all__ = ["model"]  # a fixture


def sized(engine: Engine, csm_slots: int, dam_slots: int, config: EngineConfig = CONFIG, **sizes: int) -> MemoryStats:
    """Reconfigure the memory to these sizes, and wait until it has them."""
    wanted = FlashMemoryConfig(csm_slots, dam_slots, **sizes)
    engine.reconfigure(replace(config, memory=wanted))
    wait_until(lambda: engine.status().memory.capacity == csm_slots + dam_slots)
    return engine.status().memory


def test_frames_are_ingested_at_the_new_rate(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, warnings):
        watch(engine, range(1, 11))
        engine.reconfigure(replace(CONFIG, sample_fps=0.5))
        watch(engine, range(11, 21))
        status = engine.status()
        assert (status.frames.encoded, status.frames.not_sampled) == (15, 5)
        assert status.memory.slots == 7
        engine.reconfigure(CONFIG)
        watch(engine, range(21, 31))
        status = engine.status()
    assert (status.frames.encoded, status.frames.not_sampled) == (25, 5)
    assert not warnings


@pytest.mark.parametrize(("before", "after"), [(0.01, 1.0), (1.0, 0.01), (1.0, 30.0)])
def test_the_next_frame_is_due_one_new_period_after_the_last(before: float, after: float) -> None:
    mailbox = Mailbox(before)

    def taken(stamp_ns: int) -> bool:
        mailbox.offer(Frame("camera", "", stamp_ns, lambda: image(0)))
        frame = mailbox.take()
        if frame is not None:
            mailbox.count_encoded()
        return frame is not None

    mailbox.set_rate(after)
    mailbox.set_rate(before)
    assert taken(1000 * SECOND), "the first frame is always due"
    mailbox.set_rate(after)
    period_ns = round(SECOND / after)
    assert not taken(1000 * SECOND + period_ns // 2)
    assert taken(1000 * SECOND + period_ns)
    assert not taken(1000 * SECOND + period_ns + period_ns // 2)


def test_a_smaller_memory_merges_frees_its_tensors_and_still_answers(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, warnings):
        watch(engine, range(1, 31))
        before = engine.status().memory
        after = sized(engine, 2, 1)
        answer = ask(engine)
    assert (after.entries, after.slots) == (3, before.slots)
    assert after.bytes < before.bytes
    assert after.tokens < before.tokens
    assert (after.first_ns, after.last_ns) == (before.first_ns, before.last_ns)
    assert (answer.covered_since_ns, answer.covered_until_ns) == (SECOND, 30 * SECOND)
    assert answer.memory_tokens == after.tokens
    assert not warnings


def test_a_larger_memory_stores_more_from_then_on(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 31))
        before = engine.status().memory
        grown = sized(engine, 12, 8)
        assert (before.entries, grown.entries) == (9, 6 + 8)
        watch(engine, range(31, 51))
        assert engine.status().memory.entries == 12 + 8
        assert ask(engine).error_code is ErrorCode.NONE


def test_exemplars_recent_slots_and_horizon_change_at_run_time(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 31))
        sizes = [engine.status().memory.bytes]
        for exemplars, recent in ((1, 1), (1, 4), (3, 4)):
            memory = FlashMemoryConfig(6, 3, exemplars=exemplars, recent_slots=recent, horizon_slots=7)
            before = engine.status().memory.bytes
            engine.reconfigure(replace(CONFIG, memory=memory))
            wait_until(lambda before=before: engine.status().memory.bytes != before)
            sizes.append(engine.status().memory.bytes)
        watch(engine, range(31, 41))
        assert ask(engine).error_code is ErrorCode.NONE
    assert sizes[1] < sizes[0] < sizes[3]
    assert sizes[1] < sizes[2] < sizes[3]


def test_a_size_that_does_not_fit_is_reported_and_keeps_the_memory(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, warnings):
        watch(engine, range(1, 21))
        before = engine.status().memory
        engine.reconfigure(replace(CONFIG, sample_fps=2.0, memory=FlashMemoryConfig(10**9, 3)))
        wait_until(lambda: bool(warnings))
        watch(engine, range(21, 23))
        after = engine.status().memory
        assert ask(engine).error_code is ErrorCode.NONE
        assert sized(engine, 3, 2).entries == 5
    assert (after.capacity, after.slots) == (before.capacity, before.slots + 1)
    assert "the memory keeps its 6 CSM and 3 DAM slots" in warnings[0]
    assert engine.status().last_error == warnings[0]


def test_instruction_and_answer_length_apply_from_the_next_question(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 11))
        first = ask(engine).text
        engine.reconfigure(replace(CONFIG, instruction="Say only where the robot is."))
        other = ask(engine).text
        engine.reconfigure(replace(CONFIG, max_new_tokens=2))
        short = ask(engine).text
        engine.reconfigure(CONFIG)
        again = ask(engine).text
    assert other != first == again
    assert first.startswith(short)
    assert len(short) < len(first)


def test_an_instruction_applies_to_a_question_that_is_asked_while_the_worker_is_in_a_step(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = replace(CONFIG, instruction="Say only where the robot is.")
    with running(changed, lambda: model) as (engine, _):
        watch(engine, range(1, 11))
        expected = ask(engine).text
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 11))
        worker, asked = engine._worker, []
        assert worker is not None
        ingest_frames = worker.ingest_frames

        def change_and_ask() -> bool:
            if not asked:
                engine.reconfigure(changed)
                asked.append(engine.ask(Question("What is there?")))
            return ingest_frames()

        monkeypatch.setattr(worker, "ingest_frames", change_and_ask)
        engine._wake.set()
        wait_until(lambda: asked)
        assert asked[0].answer(60.0).text == expected


def test_a_running_answer_is_not_affected_by_a_change(model: VisionLanguageModel) -> None:
    with running(replace(CONFIG, max_new_tokens=200), lambda: model) as (engine, _):
        watch(engine, range(1, 21))
        alone = ask(engine).text
        request = engine.ask(Question("What is there?"))
        next(iter(request))
        sized(engine, 2, 1, replace(CONFIG, max_new_tokens=1, instruction="Be brief."))
        assert not engine.idle, "the answer should still be under way"
        assert request.answer(60.0).text == alone


def test_question_limits_apply_at_once(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 21))
        engine.reconfigure(replace(CONFIG, max_question_chars=5, evidence=1))
        assert "question.max_chars allows 5" in ask(engine, "What is there?").error_msg
        assert len(ask(engine, "What?").evidence) == 1
        engine.reconfigure(replace(CONFIG, max_new_tokens=60_000, deadline_s=0.5))
        assert ask(engine, "A long story").error_code is ErrorCode.TIMEOUT


def test_a_shorter_queue_refuses_new_questions_and_keeps_waiting_ones(model: VisionLanguageModel) -> None:
    config = replace(CONFIG, question_queue=3, max_new_tokens=200)
    with running(config, lambda: model) as (engine, _):
        watch(engine, range(1, 5))
        first = engine.ask(Question("first"))
        next(iter(first))
        waiting = [engine.ask(Question("I wait", max_new_tokens=2)) for _ in range(3)]
        assert (engine.status().questions_waiting, engine.status().question_queue) == (3, 3)
        engine.reconfigure(replace(config, question_queue=1))
        assert engine.ask(Question("too many")).answer(5.0).error_code is ErrorCode.BUSY
        engine.reconfigure(replace(config, question_queue=4))
        late = engine.ask(Question("now there is room", max_new_tokens=2))
        codes = {request.answer(60.0).error_code for request in (first, *waiting, late)}
    assert codes == {ErrorCode.NONE}


def test_changing_the_cameras_is_refused(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        with pytest.raises(ValueError, match="rear"):
            engine.reconfigure(replace(CONFIG, cameras=("rear",), sample_fps=9.0))
        watch(engine, range(1, 3))
        assert engine.status().frames.encoded == 2


def test_changes_before_the_model_is_loaded_apply_once_it_is(model: VisionLanguageModel) -> None:
    may_load = threading.Event()

    def load() -> VisionLanguageModel:
        assert may_load.wait(30)
        return model

    engine = Engine(CONFIG, load, EngineHooks(lambda _: None, lambda _: None))
    engine.start()
    engine.reconfigure(replace(CONFIG, memory=FlashMemoryConfig(4, 2)))
    may_load.set()
    wait_until(lambda: engine.status().memory.capacity == 6)
    engine.stop()


def test_any_change_at_any_time_loses_no_frame_and_no_question(model: VisionLanguageModel) -> None:
    shapes = itertools.cycle([(6, 3, 2), (2, 1, 1), (9, 9, 3), (1, 1, 1)])
    with running(CONFIG, lambda: model) as (engine, warnings):
        done = threading.Event()

        def change() -> None:
            for (csm, dam, exemplars), fps in zip(shapes, itertools.cycle([1.0, 2.0, 0.5]), strict=False):
                engine.reconfigure(replace(CONFIG, sample_fps=fps, memory=FlashMemoryConfig(csm, dam, exemplars)))
                if done.wait(0.002):
                    return

        changing = threading.Thread(target=change)
        changing.start()
        requests = []
        for second in range(1, 60):
            watch(engine, range(second, second + 1))
            if second % 5 == 0:
                requests.append(engine.ask(Question("What is there?", max_new_tokens=3)))
        codes = [request.answer(60.0).error_code for request in requests]
        done.set()
        changing.join()
        wait_until(lambda: settled(engine))
        frames, memory = engine.status().frames, engine.status().memory
    assert set(codes) <= {ErrorCode.NONE, ErrorCode.BUSY, ErrorCode.NO_FRAMES}
    assert frames.received == frames.encoded + frames.not_sampled + frames.dropped == 59
    assert memory.entries <= memory.capacity
    assert not warnings
