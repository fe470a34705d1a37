"""Requests of clients: checked, given an id, and reduced to the operator's limits."""

from __future__ import annotations

import pytest

from flash_vstream_ros.memory.scope import BadScope, Scope
from flash_vstream_ros.node.requests import BadRequest, QuestionLimits, question_of, request_id, scope_of
from flash_vstream_ros.ros.interfaces import AskScene, DurationMsg, Forget, ListMemory, TimeMsg
from flash_vstream_ros.ros.stamps import (
    EARLIEST_NS,
    LATEST_NS,
    SECOND_NS,
    BadStamp,
    duration_message,
    duration_ns,
    stamp_at,
    stamp_message,
    stamp_ns,
)

LIMITS = QuestionLimits(deadline_s=60.0, answer_tokens=500)


def test_a_question_within_the_limits_is_not_changed() -> None:
    request = AskScene.Request(
        question="Who?",
        question_id="robot-1/q:7",
        cameras=["front"],
        deadline=duration_message(60.0),
        max_new_tokens=500,
    )
    question, adjustments = question_of(request, request_id(request.question_id, "question_id"), LIMITS)
    assert (question.text, question.id, question.scope) == ("Who?", "robot-1/q:7", Scope(("front",)))
    assert (question.deadline_s, question.max_new_tokens, adjustments) == (60.0, 500, ())


def test_a_request_beyond_the_limits_is_reduced_with_a_warning() -> None:
    request = AskScene.Request(question="Who?", deadline=DurationMsg(sec=2**31 - 1), max_new_tokens=65535)
    question, adjustments = question_of(request, "q", LIMITS)
    assert (question.deadline_s, question.max_new_tokens) == (60.0, 500)
    assert adjustments == (
        "deadline reduced from 2147483647 s to question.max_deadline_s = 60 s",
        "max_new_tokens reduced from 65535 to question.max_answer_tokens = 500",
    )


def test_questions_without_an_id_get_different_ones() -> None:
    ids = {request_id("", "question_id") for _ in range(100)}
    assert len(ids) == 100
    assert all(1 <= len(each) <= 64 for each in ids)


@pytest.mark.parametrize("bad", ["*", "a b", "é", "x" * 65, "a\n", "\x1b[31m", "x" * 10_000_000])
def test_a_malformed_id_is_refused_in_a_bounded_sentence(bad: str) -> None:
    with pytest.raises(BadRequest, match="question_id") as refused:
        request_id(bad, "question_id")
    assert len(str(refused.value)) < 400
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "fields",
    [
        {"since": TimeMsg(sec=-1)},
        {"until": TimeMsg(sec=-(2**31))},
        {"since": TimeMsg(sec=5, nanosec=SECOND_NS)},
        {"until": TimeMsg(sec=2**31 - 1, nanosec=2**32 - 1)},
    ],
)
def test_stamps_out_of_range_are_refused(fields: dict[str, TimeMsg]) -> None:
    with pytest.raises(BadScope):
        scope_of(Forget.Request(**fields))
    with pytest.raises(BadScope):
        question_of(AskScene.Request(question="Who?", **fields), "q", LIMITS)


@pytest.mark.parametrize("cameras", [["x"] * 257, ["x" * 65], ["x" * 10_000_000], ["a\n[INFO] forged"], ["\x1b[31m"]])
def test_invalid_camera_names_are_refused_in_a_bounded_sentence(cameras: list[str]) -> None:
    with pytest.raises(BadScope, match="cameras") as refused:
        scope_of(ListMemory.Request(cameras=cameras))
    assert len(str(refused.value)) < 200
    assert str(refused.value).isprintable()


def test_a_deadline_out_of_range_is_refused() -> None:
    with pytest.raises(BadRequest, match="deadline: nanosec is 4294967295"):
        question_of(AskScene.Request(question="Who?", deadline=DurationMsg(nanosec=2**32 - 1)), "q", LIMITS)


def test_stamps_and_durations_survive_a_round_trip() -> None:
    for nanoseconds in (0, 1, SECOND_NS - 1, SECOND_NS, LATEST_NS):
        assert stamp_ns(stamp_message(nanoseconds)) == nanoseconds
    for seconds in (0.0, 1.5, -1.5, 1e-9):
        assert duration_ns(duration_message(seconds)) == round(seconds * SECOND_NS)
    assert stamp_at(12.25) == stamp_message(12_250_000_000)


def test_values_out_of_the_range_of_a_message_are_clamped() -> None:
    assert stamp_ns(stamp_message(LATEST_NS + 1)) == LATEST_NS
    assert stamp_message(EARLIEST_NS - 1) == TimeMsg(sec=-(2**31))
    assert duration_ns(duration_message(1e30)) == LATEST_NS


@pytest.mark.parametrize(
    ("stamp", "reason"),
    [(TimeMsg(sec=-1), "negative_stamp"), (TimeMsg(sec=2**31 - 1, nanosec=2**32 - 1), "nanosec_out_of_range")],
)
def test_a_bad_stamp_has_a_drop_reason(stamp: TimeMsg, reason: str) -> None:
    with pytest.raises(BadStamp) as refused:
        stamp_ns(stamp)
    assert refused.value.reason == reason
