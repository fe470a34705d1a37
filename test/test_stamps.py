"""Classes of stamps: late frames, time jumps, and publishers that share a topic."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_vstream_ros.engine.ingest.stamps import JumpBack, Stamp, StampWatch, stamp_problem

MS = 1_000_000
SECOND = 1000 * MS
JUMP, FORWARD = 2 * SECOND, 4 * SECOND
FOLLOWED, IGNORED = True, False


def watch(follows: bool = FOLLOWED) -> StampWatch:
    return StampWatch(JUMP, FORWARD, follow_jump_back=follows)


def classes(stamps_ms: list[int], follows: bool = FOLLOWED) -> list[Stamp]:
    camera = watch(follows)
    return [camera.classify(stamp * MS) for stamp in stamps_ms]


def hertz(rate: int, begin_ms: int, end_ms: int) -> list[int]:
    return list(range(begin_ms, end_ms, 1000 // rate))


def test_a_looping_bag_is_recognised_after_a_few_increasing_stamps() -> None:
    stamps_found = classes([*hertz(10, 10_000, 40_000), *hertz(10, 10_000, 40_000)])
    again = stamps_found[300:]
    assert set(stamps_found[:300]) == {Stamp.NEWER}
    assert again[:20] == [Stamp.LATE] * 20
    assert again[20] is Stamp.JUMP_BACK
    assert set(again[21:]) == {Stamp.NEWER}


def test_every_loop_of_a_bag_is_counted() -> None:
    camera = watch()
    for _ in range(5):
        for stamp in hertz(10, 10_000, 20_000):
            camera.classify(stamp * MS)
    assert camera.jumps_back == 4


def test_an_ignored_jump_is_reported_once_and_its_frames_are_late_until_they_catch_up() -> None:
    stamps_found = classes([*hertz(10, 50_000, 60_000), *hertz(10, 40_000, 65_000)], IGNORED)[100:]
    assert stamps_found.count(Stamp.JUMP_BACK) == 1
    assert stamps_found[20] is Stamp.JUMP_BACK
    assert set(stamps_found[21:200]) == {Stamp.LATE}
    assert set(stamps_found[200:]) == {Stamp.NEWER}


@pytest.mark.parametrize("late", [59_900, 58_000, 57_000, 40_000, 1])
def test_a_single_late_frame_is_never_a_jump(late: int) -> None:
    stamps_found = classes([*hertz(10, 50_000, 60_001), late, *hertz(10, 60_100, 70_000)])
    assert stamps_found.count(Stamp.LATE) == 1
    assert set(stamps_found) == {Stamp.NEWER, Stamp.LATE}


def test_two_frames_from_the_past_are_no_jump() -> None:
    assert Stamp.JUMP_BACK not in classes([*hertz(10, 50_000, 60_000), 10_000, 20_000])
    assert classes([*hertz(10, 50_000, 60_000), 10_000, 20_000, 30_000])[-1] is Stamp.JUMP_BACK


@settings(deadline=None)
@given(
    behind=st.integers(1, 3_600_000),
    fast=st.sampled_from([30, 10, 5, 1]),
    slow=st.sampled_from([30, 10, 5, 1]),
    phase=st.integers(0, 900),
)
def test_two_publishers_on_a_topic_are_no_jump(behind: int, fast: int, slow: int, phase: int) -> None:
    begin = behind + 10_000
    ahead = [(t, t) for t in hertz(fast, begin, begin + 20_000)]
    past = [(t, t - behind) for t in hertz(slow, begin + phase, begin + 20_000)]
    stamps_found = classes([stamp for _, stamp in sorted(ahead + past)])
    assert not {Stamp.JUMP_BACK, Stamp.RETURN} & set(stamps_found)
    assert len(stamps_found) - stamps_found.count(Stamp.LATE) >= len(ahead)


@settings(deadline=None)
@given(
    gaps=st.lists(st.integers(1, 1500), min_size=1, max_size=40),
    back=st.integers(2001, 3_600_000),
    steps=st.lists(st.integers(1, 1500), min_size=30, max_size=60),
)
def test_a_clock_set_back_is_followed_within_two_seconds_at_any_rate(
    gaps: list[int], back: int, steps: list[int]
) -> None:
    camera, stamp = watch(), 3_700_000
    for gap in gaps:
        stamp += gap
        camera.classify(stamp * MS)
    start = stamp = stamp - back
    followed: list[int] = []
    for step in steps:
        stamp += step
        if stamp >= start + back:
            break  # it has caught up
        stamps_found = camera.classify(stamp * MS)
        if followed or stamps_found is Stamp.JUMP_BACK:
            followed.append(stamp)
            assert stamps_found is (Stamp.JUMP_BACK if len(followed) == 1 else Stamp.NEWER)
        else:
            assert stamps_found is Stamp.LATE
            assert stamp - start < 2000 + 2 * 1500
    assert camera.jumps_back == bool(followed)


@settings(deadline=None)
@given(st.lists(st.integers(-1, 100), max_size=80), st.booleans())
def test_accepted_stamps_only_go_back_at_a_jump_or_a_return(seconds: list[int], follows: bool) -> None:
    camera, newest = watch(follows), 0
    for second in seconds:
        stamps_found = camera.classify(second * SECOND)
        back = stamps_found is Stamp.RETURN or (stamps_found is Stamp.JUMP_BACK and follows)
        if back:
            assert 0 < second * SECOND < newest
            newest = second * SECOND
        elif stamps_found in (Stamp.NEWER, Stamp.JUMP_FORWARD):
            assert second * SECOND > newest
            newest = second * SECOND
        else:
            assert second <= 0 or second * SECOND <= newest
        assert camera.newest_ns == newest


def test_a_jump_forward_is_reported_and_followed() -> None:
    camera = watch()
    stamps_found = [camera.classify(stamp * SECOND) for stamp in (10, 11, 12, 7212, 7213)]
    assert stamps_found == [Stamp.NEWER] * 3 + [Stamp.JUMP_FORWARD, Stamp.NEWER]
    assert (camera.jumps_forward, camera.jumped_ns) == (1, 7200 * SECOND)


def test_one_frame_from_the_future_does_not_block_a_camera_and_is_no_jump_back() -> None:
    camera = watch(IGNORED)
    for stamp in hertz(10, 10_000, 20_000):
        camera.classify(stamp * MS)
    assert camera.classify(90_000 * MS) is Stamp.JUMP_FORWARD
    camera.count_kept()
    stamps_found = [camera.classify(stamp * MS) for stamp in hertz(10, 20_000, 30_000)]
    assert stamps_found[:21] == [Stamp.LATE] * 20 + [Stamp.RETURN]
    assert set(stamps_found[21:]) == {Stamp.NEWER}
    assert (camera.jumps_back, camera.jumps_forward) == (0, 1)


def test_a_clock_set_forward_and_then_back_is_a_jump_back() -> None:
    camera = watch()
    for stamp in [*hertz(1, 10_000, 20_000), *hertz(1, 90_000, 93_000)]:
        camera.classify(stamp * MS)
        camera.count_kept()
    stamps_found = [camera.classify(stamp * MS) for stamp in hertz(1, 23_000, 30_000)]
    assert stamps_found[:3] == [Stamp.LATE, Stamp.LATE, Stamp.JUMP_BACK]


def test_stamps_of_zero_change_nothing() -> None:
    assert classes([0, 5000, 0, 5100]) == [Stamp.ZERO, Stamp.NEWER, Stamp.ZERO, Stamp.NEWER]


def test_every_stamp_problem_has_a_log_sentence_with_its_effect() -> None:
    assert stamp_problem(Stamp.NEWER, 0, JumpBack.FORK) == ""
    for choice in JumpBack:
        assert choice.value in stamp_problem(Stamp.JUMP_BACK, 7 * SECOND, choice)
        assert "7.0 s" in stamp_problem(Stamp.JUMP_BACK, 7 * SECOND, choice)
    assert "header.stamp" in stamp_problem(Stamp.ZERO, 0, JumpBack.FORK)
    assert "3600.0 s" in stamp_problem(Stamp.JUMP_FORWARD, 3600 * SECOND, JumpBack.FORK)
    assert all(stamp_problem(stamp, 0, JumpBack.FORK) for stamp in Stamp if stamp is not Stamp.NEWER)
