"""Sampling by stamp, and the counts of every frame."""

import itertools

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_vstream_ros.engine.ingest.mailbox import Frame, FrameCounts, Mailbox
from flash_vstream_ros.engine.ingest.stamps import StampWatch
from flash_vstream_ros.engine.jpeg import thumbnail
from flash_vstream_ros.memory.spans import Interval

SECOND = 1_000_000_000


def frame(stamp_ns: int) -> Frame:
    return Frame("camera", "optical", stamp_ns, lambda: np.zeros((8, 8, 3), np.uint8))


def taken_stamps(stamps_s: list[float], sample_fps: float = 1.0) -> list[float]:
    mailbox = Mailbox(sample_fps)
    taken = []
    for stamp in stamps_s:
        mailbox.offer(frame(round(stamp * SECOND)))
        if (got := mailbox.take()) is not None:
            mailbox.count_encoded()
            taken.append(got.stamp_ns / SECOND)
    return taken


def balanced(counts: FrameCounts) -> bool:
    return counts.received == counts.encoded + counts.not_sampled + counts.dropped + counts.pending


def test_a_30_hz_camera_is_sampled_once_a_second() -> None:
    taken = taken_stamps([100 + i / 30 for i in range(30 * 20)])
    assert len(taken) == 20
    assert np.allclose(np.diff(taken), 1.0, atol=0.11)


def test_a_1_hz_camera_with_jitter_loses_no_frame() -> None:
    jitter = np.random.default_rng(0).uniform(-0.04, 0.04, 50)
    stamps = [10 + i + float(jitter[i]) for i in range(50)]
    assert len(taken_stamps(stamps)) == 50


def test_sampling_does_not_drift_when_the_rates_do_not_divide() -> None:
    assert len(taken_stamps([100 + i / 7 for i in range(7 * 60)])) == 60


def test_a_gap_starts_a_new_grid_and_does_not_let_a_burst_through() -> None:
    stamps = [1 + i / 10 for i in range(20)] + [100 + i / 10 for i in range(20)]
    assert len(taken_stamps(stamps)) == 4


def test_only_the_newest_due_frame_waits() -> None:
    mailbox = Mailbox(sample_fps=1.0)
    for second in (1, 2, 3):
        mailbox.offer(frame(second * SECOND))
    waiting = mailbox.take()
    assert waiting is not None
    assert waiting.stamp_ns == 3 * SECOND
    assert dict(mailbox.counts().drops) == {"superseded": 2}


def test_zero_and_backward_stamps_are_counted_by_reason_and_do_not_move_time() -> None:
    mailbox = Mailbox(sample_fps=1.0)
    assert mailbox.offer(frame(0)).dropped == "zero_stamp"
    assert mailbox.offer(frame(5 * SECOND)).dropped is None
    assert mailbox.offer(frame(5 * SECOND)).dropped == "stamp_not_newer"
    assert mailbox.offer(frame(4 * SECOND)).dropped == "stamp_not_newer"
    assert mailbox.counts().newest_ns == 5 * SECOND


@settings(deadline=None)
@given(
    stamps=st.lists(st.integers(-2, 60), max_size=60),
    actions=st.lists(
        st.sampled_from(["take", "encode", "drop", "wait", "pause", "resume", "forget", "reset"]), max_size=60
    ),
    sample_fps=st.sampled_from([0.2, 1.0, 3.0]),
    follows=st.booleans(),
)
def test_every_frame_is_accounted_for_at_every_moment(
    stamps: list[int], actions: list[str], sample_fps: float, follows: bool
) -> None:
    mailbox = Mailbox(sample_fps, StampWatch(follow_jump_back=follows))
    in_work = 0
    for stamp, action in itertools.zip_longest(stamps, actions, fillvalue=None):
        if stamp == -2:
            mailbox.reject("zero_size")
        elif stamp is not None:
            mailbox.offer(frame(int(stamp) * SECOND // 4))
        if action == "take":
            in_work += mailbox.take() is not None
        elif in_work and action == "encode":
            mailbox.count_encoded()
            in_work -= 1
        elif in_work and action == "drop":
            mailbox.count_dropped("undecodable")
            in_work -= 1
        elif action == "pause":
            mailbox.pause()
            assert mailbox.counts().pending == in_work
        elif action == "resume":
            mailbox.resume()
        elif action == "forget":
            mailbox.forget(Interval(SECOND, 4 * SECOND))
        elif action == "reset":
            mailbox.reset()
            assert mailbox.counts().newest_ns == 0
        assert balanced(mailbox.counts())
    assert mailbox.counts().received == len(stamps)


def test_a_paused_mailbox_drops_waiting_and_new_frames_and_follows_the_stamps() -> None:
    mailbox = Mailbox(sample_fps=1.0)
    mailbox.offer(frame(SECOND))
    mailbox.pause()
    assert mailbox.take() is None
    assert mailbox.offer(frame(2 * SECOND)).dropped == "paused"
    assert mailbox.counts().newest_ns == 2 * SECOND
    mailbox.resume()
    assert mailbox.offer(frame(2 * SECOND)).dropped == "stamp_not_newer"
    assert mailbox.offer(frame(5 * SECOND // 2)).dropped is None
    assert mailbox.take() is not None
    assert dict(mailbox.counts().drops) == {"paused": 2, "stamp_not_newer": 1}


def test_the_jump_flag_survives_when_a_newer_frame_replaces_the_first() -> None:
    mailbox = Mailbox(1.0, StampWatch(follow_jump_back=True))
    taken = []
    for second in (100, 101, 50, 51, 52, 53, 54):
        mailbox.offer(frame(second * SECOND))
        if second in (100, 101, 53, 54):
            got = mailbox.take()
            assert got is not None
            taken.append((got.stamp_ns // SECOND, got.jumped))
    assert taken == [(100, False), (101, False), (53, True), (54, False)]


def test_counts_of_cameras_add_up() -> None:
    left, right = Mailbox(1.0), Mailbox(1.0)
    left.offer(frame(SECOND))
    left.reject("truncated")
    right.reject("truncated")
    total = FrameCounts.total([left.counts(), right.counts()])
    assert (total.received, total.pending, dict(total.drops)) == (3, 1, {"truncated": 2})
    assert total.newest_ns == SECOND


def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape_never_enlarged() -> None:
    def decoded(height: int, width: int) -> np.ndarray:
        jpeg = thumbnail(np.full((height, width, 3), (200, 30, 30), np.uint8))
        return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]

    assert decoded(480, 640).shape == (120, 160, 3)
    assert decoded(12, 16).shape == (12, 16, 3)
    assert decoded(800, 1).shape == (160, 1, 3)
    assert np.allclose(decoded(480, 640).mean((0, 1)), (200, 30, 30), atol=4)
