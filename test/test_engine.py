"""The engine with the real tiny model: frames, answers, and errors in between."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_engine import CONFIG, SECOND, Failing, ask, frame, image, model, running, settled, wait_until, watch

from flash_vstream_ros.engine.answering.prefix_cache_config import PrefixCacheConfig
from flash_vstream_ros.engine.answering.question import ErrorCode, Question
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.confidence import Calibration, geometric_mean
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.model_kind import without_label

__all__ = ["model"]  # a fixture


def test_frames_become_slots_and_a_question_is_answered_from_them(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, warnings):
        watch(engine, range(10, 30))
        answer = ask(engine)
        status = engine.status()
    assert answer.error_code is ErrorCode.NONE
    assert answer.text.startswith("[untrained]")
    assert 0 < answer.token_probability <= 1
    assert answer.confidence == answer.token_probability, "an untrained model has no calibration"
    assert not answer.calibrated
    assert (answer.covered_since_ns, answer.covered_until_ns) == (10 * SECOND, 29 * SECOND)
    assert answer.newest_ns == 29 * SECOND
    assert answer.frame_id == "camera_optical"
    assert 0 < answer.time_to_first_token_s <= answer.duration_s
    assert len(answer.evidence) == CONFIG.evidence
    relevances = [evidence.relevance for evidence in answer.evidence]
    assert relevances == sorted(relevances, reverse=True)
    assert all(evidence.entry.thumbnail[:2] == b"\xff\xd8" for evidence in answer.evidence)
    assert (status.frames.encoded, status.memory.slots) == (20, 10)
    assert status.memory.entries <= status.memory.capacity == 9
    assert status.questions_answered == 1
    assert not warnings


def test_the_same_stream_and_question_give_the_same_answer(model: VisionLanguageModel) -> None:
    answers = []
    for _ in range(2):
        with running(CONFIG, lambda: model) as (engine, _warnings):
            watch(engine, range(1, 21))
            answers.append(ask(engine))
    assert answers[0].text == answers[1].text
    # The number of tokens prefilled in the background varies with time, and the last bits of results depend on it.
    assert answers[0].token_probability == pytest.approx(answers[1].token_probability, abs=1e-5)


def test_the_confidence_is_the_calibration_of_the_tokens_of_a_complete_answer(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[float], str]] = []

    class Recording(Calibration):
        def confidence(self, probabilities: Any, answer: str = "") -> float:
            seen.append((list(probabilities), answer))
            return super().confidence(probabilities, answer)

    fitted = (-2.0, 0.1, 0.2)
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 21))
        monkeypatch.setattr(model, "calibration", Recording(fitted))
        stated = ask(engine)
        (probabilities, text) = seen[0]
        for weights in (fitted, ()):
            monkeypatch.setattr(model, "calibration", Calibration(weights, declines=text))
            declined = ask(engine)
            assert declined.text == stated.text
            assert (declined.confidence, declined.calibrated) == (0.0, bool(weights))
            assert declined.token_probability > 0
        monkeypatch.setattr(model, "calibration", Calibration(fitted))
        long = engine.ask(Question("a long story", max_new_tokens=60_000))
        next(iter(long))
        engine.cancel_all()
        cancelled = long.answer(30.0)
    assert text == without_label(stated.text)
    assert len(probabilities) == CONFIG.max_new_tokens
    assert stated.token_probability == pytest.approx(geometric_mean(probabilities))
    assert stated.confidence == Calibration(fitted).confidence(probabilities, text)
    assert abs(stated.confidence - stated.token_probability) > 1e-3
    assert stated.calibrated
    assert (cancelled.error_code, cancelled.confidence, cancelled.calibrated) == (ErrorCode.CANCELLED, 0.0, False)


def test_answer_pieces_stream_during_generation_and_add_up_to_the_answer(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 5))
        request = engine.ask(Question("What is there?"))
        pieces = list(request)
    assert len(pieces) > 2
    assert "".join(pieces).rstrip() == request.answer().text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "  "}, "empty"),
        ({"text": "x" * 1_000_000}, "max_chars"),
        ({"scope": Scope(since_ns=20, until_ns=10)}, "since is later than until"),
        ({"scope": Scope(("rear",))}, "unknown camera rear"),
        ({"deadline_s": -1.0}, "deadline is negative"),
        ({"scope": Scope(since_ns=-5)}, "negative"),
    ],
)
def test_a_contradictory_question_is_refused_with_the_reason(
    model: VisionLanguageModel, fields: dict, message: str
) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 5))
        answer = ask(engine, **fields)
    assert answer.error_code is ErrorCode.INVALID_REQUEST
    assert message in answer.error_msg


def test_a_question_before_the_first_slot_is_answered_no_frames(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        assert ask(engine).error_code is ErrorCode.NO_FRAMES
        watch(engine, range(1, 2))
        assert ask(engine).error_code is ErrorCode.NO_FRAMES
        watch(engine, range(2, 3))
        assert ask(engine).error_code is ErrorCode.NONE
        assert ask(engine, scope=Scope(since_ns=100 * SECOND)).error_code is ErrorCode.NO_FRAMES


def test_since_and_until_restrict_what_an_answer_covers(model: VisionLanguageModel) -> None:
    config = replace(CONFIG, memory=FlashMemoryConfig(csm_slots=60, dam_slots=30))
    with running(config, lambda: model) as (engine, _):
        watch(engine, range(1, 21))
        answer = ask(engine, scope=Scope(since_ns=7 * SECOND, until_ns=12 * SECOND))
    assert answer.covered_since_ns == 7 * SECOND
    assert answer.covered_until_ns == 12 * SECOND


def test_cameras_share_one_memory_and_can_be_selected_by_question(model: VisionLanguageModel) -> None:
    config = replace(CONFIG, cameras=("front", "rear"))
    with running(config, lambda: model) as (engine, _):
        for second in range(1, 9):
            watch(engine, range(second, second + 1), "front")
            watch(engine, range(second, second + 1), "rear")
        both, rear = ask(engine), ask(engine, scope=Scope(cameras=("rear",)))
    assert both.memory_tokens > rear.memory_tokens
    assert both.cameras == ("front", "rear")
    assert rear.cameras == ("rear",)
    assert rear.frame_id == "rear_optical"
    assert {evidence.entry.camera for evidence in rear.evidence} == {"rear"}


def test_cameras_of_any_size_share_one_memory_with_the_grid_of_the_first(model: VisionLanguageModel) -> None:
    config = replace(CONFIG, cameras=("wide", "tall", "tiny"), evidence=9)
    with running(config, lambda: model) as (engine, warnings):
        for second in range(1, 9):
            watch(engine, range(second, second + 1), "wide", (90, 240))
            watch(engine, range(second, second + 1), "tall", (240, 90))
            watch(engine, range(second, second + 1), "tiny", (8, 8))
        answer, tall = ask(engine), ask(engine, scope=Scope(cameras=("tall",)))
        frames, drops = dict(engine.status().cameras), dict(engine.status().frames.drops)
    assert answer.cameras == ("tall", "wide")
    assert tall.error_code is ErrorCode.NONE
    assert {evidence.entry.camera for evidence in tall.evidence} == {"tall"}
    assert frames["wide"].encoded == frames["tall"].encoded == 8
    assert drops == dict(frames["tiny"].drops) == {"unusable_size": 8}
    assert any("camera tall" in warning and "letterboxed" in warning for warning in warnings)
    assert not any("camera wide" in warning for warning in warnings)


def test_a_full_queue_replies_busy_and_waiting_questions_are_answered_in_order(model: VisionLanguageModel) -> None:
    with running(replace(CONFIG, question_queue=2, max_new_tokens=200), lambda: model) as (engine, _):
        watch(engine, range(1, 5))
        first = engine.ask(Question("first"))
        next(iter(first))
        requests = [engine.ask(Question(f"question {i}", max_new_tokens=4)) for i in range(5)]
        codes = [request.answer(60.0).error_code for request in [first, *requests]]
    assert codes == [ErrorCode.NONE] * 3 + [ErrorCode.BUSY] * 3


def test_a_deadline_ends_an_answer_between_tokens_and_a_wait_in_the_queue(model: VisionLanguageModel) -> None:
    with running(replace(CONFIG, max_new_tokens=60_000), lambda: model) as (engine, _):
        watch(engine, range(1, 5))
        long = engine.ask(Question("a long story", deadline_s=1.5))
        waiting = engine.ask(Question("me too", deadline_s=0.3))
        assert waiting.answer(30.0).error_code is ErrorCode.TIMEOUT
        assert waiting.answer().duration_s < long.answer(30.0).duration_s
        assert long.answer().error_code is ErrorCode.TIMEOUT
        assert len(long.answer().text) > len("[untrained]")
        assert ask(engine, max_new_tokens=2).error_code is ErrorCode.NONE


def test_cancelling_ends_the_answer_and_keeps_its_text(model: VisionLanguageModel) -> None:
    with running(replace(CONFIG, max_new_tokens=60_000), lambda: model) as (engine, _):
        watch(engine, range(1, 5))
        request = engine.ask(Question("a long story"))
        pieces = iter(request)
        next(pieces), next(pieces)
        assert engine.cancel_all() == 1
        answer = request.answer(30.0)
    assert answer.error_code is ErrorCode.CANCELLED
    assert answer.text.startswith("[untrained]")


def test_stopping_cancels_the_running_and_the_waiting_questions(model: VisionLanguageModel) -> None:
    with running(replace(CONFIG, max_new_tokens=60_000), lambda: model) as (engine, _):
        watch(engine, range(1, 5))
        requests = [engine.ask(Question("a long story")) for _ in range(3)]
        next(iter(requests[0]))
        engine.stop()
        late = engine.ask(Question("too late"))
    assert {request.answer(5.0).error_code for request in requests} == {ErrorCode.CANCELLED}
    assert late.answer(5.0).error_code is ErrorCode.NOT_READY
    assert "shut down" in late.answer().error_msg


def test_frames_are_ingested_during_an_answer_and_do_not_change_it(model: VisionLanguageModel) -> None:
    with running(replace(CONFIG, sample_fps=20, max_new_tokens=300), lambda: model) as (engine, _):
        watch(engine, range(1, 21), step_ns=SECOND // 20)
        alone = ask(engine).text
        request = engine.ask(Question("What is there?"))
        next(iter(request))
        before = engine.status().memory.slots
        watch(engine, range(21, 31), step_ns=SECOND // 20)
        assert not engine.idle, "the answer should still be under way"
        assert engine.status().memory.slots == before + 5
        assert request.answer(60.0).text == alone
        assert request.answer().covered_until_ns == SECOND


def test_a_frame_that_is_not_sampled_wakes_no_thread(model: Any) -> None:
    """The camera's callback would wait for the interpreter lock behind it."""
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 3))
        woken: list[tuple[str, int]] = []
        wake, fetch = engine._wake.set, engine._worker.ingest.prefetch.fetch
        here = threading.get_ident()
        engine._wake.set = lambda: (woken.append(("worker", threading.get_ident())), wake())
        engine._worker.ingest.prefetch.fetch = lambda camera: (
            woken.append(("prefetch", threading.get_ident())),
            fetch(camera),
        )
        for number in range(61, 88):  # at 30 Hz, after the frame of the second second
            engine.offer(frame(number, step_ns=SECOND // 30))
        assert engine.status().frames.not_sampled == 27
        assert not [thread for thread, by in woken if by == here]
        engine.offer(frame(3))
        assert ("prefetch", here) in woken
        wait_until(lambda: settled(engine))


@pytest.mark.parametrize(
    ("sample_fps", "frames", "goes_first"),
    [(0.01, 1, True), (60.0, 1, False), (0.01, 2, False)],
    ids=["a_quarter_of_a_slot_is_long", "it_is_short", "no_room_for_a_further_frame"],
)
def test_an_answer_precedes_waiting_frames_for_a_quarter_of_a_slot_period(
    model: Any, sample_fps: float, frames: int, goes_first: bool
) -> None:
    """Three frames were ingested; the first that arrives during an answer completes a slot."""
    happened: list[str] = []
    decoded = threading.Semaphore(0)
    step_ns = round(1e9 / sample_fps)

    def say(*_: Any) -> None:
        if len(happened) == 3:  # during an answer: let frames arrive, and their maximum wait pass
            assert all(decoded.acquire(timeout=30.0) for _ in range(frames))
            time.sleep(0.05)
        happened.append("token")

    def decode() -> np.ndarray:
        decoded.release()
        return image(frames)

    unread = PrefixCacheConfig(max_device_share=0.0)
    config = replace(CONFIG, sample_fps=sample_fps, max_new_tokens=40, prefix_cache=unread)
    with running(config, lambda: model) as (engine, _):
        watch(engine, range(1, 4), step_ns=step_ns)
        hooks = [
            model.network.model.visual.register_forward_hook(lambda *_: happened.append("slot")),
            model.network.model.language_model.register_forward_hook(say),
        ]
        request = engine.ask(Question("What is there?"))
        wait_until(lambda: len(happened) == 3)
        for number in range(4, 4 + frames):
            engine.offer(replace(frame(number, step_ns=step_ns), decode=decode))
        request.answer(30.0)
        wait_until(lambda: settled(engine))
        for hook in hooks:
            hook.remove()
    assert happened.count("slot") == 1
    assert (happened.index("slot") == len(happened) - 1) is goes_first


def test_a_bad_frame_is_counted_and_reported_and_the_next_one_is_ingested(model: VisionLanguageModel) -> None:
    def broken() -> np.ndarray:
        raise ValueError("cut short")

    with running(CONFIG, lambda: model) as (engine, warnings):
        watch(engine, range(1, 3))
        engine.offer(Frame("camera", "", 3 * SECOND, broken))
        wait_until(lambda: settled(engine))
        engine.offer(Frame("camera", "", 0, lambda: image(0)))
        engine.offer(Frame("camera", "", SECOND, lambda: image(0)))
        engine.reject("camera", "truncated", "data is cut short")
        watch(engine, range(4, 6))
        status = engine.status()
    assert dict(status.frames.drops) == {"undecodable": 1, "zero_stamp": 1, "stamp_not_newer": 1, "truncated": 1}
    assert status.frames.received == status.frames.encoded + status.frames.not_sampled + status.frames.dropped
    assert status.memory.slots == 2
    assert len(warnings) == 4
    assert "cut short" in status.last_error


def test_frames_far_apart_are_not_paired_to_a_slot(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 4))
        watch(engine, range(100, 102))
        status = engine.status()
        answer = ask(engine)
    assert status.memory.slots == 3  # the frame before the pause becomes a slot with itself
    assert status.frames.received == status.frames.encoded == 5
    assert answer.evidence
    assert all(evidence.entry.last_ns - evidence.entry.first_ns <= SECOND for evidence in answer.evidence)


def test_a_change_of_resolution_is_reported_and_keeps_the_memory(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, warnings):
        watch(engine, range(1, 5))
        watch(engine, range(5, 9), size=(360, 320))
        watch(engine, range(9, 10), size=(2, 900))
        watch(engine, range(10, 12), size=(120, 160))
        status = engine.status()
        assert ask(engine).error_code is ErrorCode.NONE
    assert status.memory.slots == 5
    assert status.frames.resolution_changes == 2
    assert dict(status.frames.drops) == {"unusable_size": 1}
    assert any("image size changed from (120, 160) to (360, 320)" in warning for warning in warnings)


def test_a_frame_too_small_for_the_model_does_not_fix_the_grid(model: VisionLanguageModel) -> None:
    with running(CONFIG, lambda: model) as (engine, _):
        engine.offer(Frame("camera", "", SECOND, lambda: np.zeros((2, 900, 3), np.uint8)))
        wait_until(lambda: settled(engine))
        assert dict(engine.status().frames.drops) == {"unusable_size": 1}
        watch(engine, range(2, 4))
        assert engine.status().memory.slots == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(torch.OutOfMemoryError("no room"), ErrorCode.OUT_OF_MEMORY), (ZeroDivisionError("defect"), ErrorCode.INTERNAL)],
)
def test_an_answer_that_fails_on_the_device_ends_that_answer_only(
    model: VisionLanguageModel, error: Exception, code: ErrorCode
) -> None:
    with running(CONFIG, lambda: Failing(model, "answer", error)) as (engine, warnings):  # type: ignore[arg-type, return-value]
        watch(engine, range(1, 5))
        assert ask(engine).error_code is code
        assert ask(engine).error_code is ErrorCode.NONE
    assert len(warnings) == 1


def test_a_slot_that_fails_on_the_device_drops_only_its_two_frames(model: VisionLanguageModel) -> None:
    failing = Failing(model, "encode_slots", torch.OutOfMemoryError("no room"))
    with running(CONFIG, lambda: failing) as (engine, _):  # type: ignore[arg-type, return-value]
        watch(engine, range(1, 7))
        frames, slots = engine.status().frames, engine.status().memory.slots
    assert slots == 2
    assert (frames.encoded, dict(frames.drops)) == (4, {"out_of_memory": 2})
