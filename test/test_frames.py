"""Sampling by stamp and the account of every frame."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flash_vstream_ros.engine.frames import Frame, FrameCounts, Mailbox, thumbnail

SECOND = 1_000_000_000


def frame(stamp_ns: int) -> Frame:
    return Frame("camera", "optical", stamp_ns, lambda: np.zeros((8, 8, 3), np.uint8))


def taken_stamps(stamps_s: list[float], sample_fps: float = 1.0) -> list[float]:
    mailbox = Mailbox(sample_fps)
    taken = []
    for stamp in stamps_s:
        mailbox.offer(frame(round(stamp * SECOND)))
        if (got := mailbox.take()) is not None:
            mailbox.encoded()
            taken.append(got.stamp_ns / SECOND)
    return taken


def balanced(counts: FrameCounts) -> bool:
    return counts.received == counts.encoded + counts.gated + counts.dropped + counts.pending


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


def test_zero_and_backward_stamps_are_dropped_by_name_and_do_not_move_time() -> None:
    mailbox = Mailbox(sample_fps=1.0)
    assert mailbox.offer(frame(0)).dropped == "zero_stamp"
    assert mailbox.offer(frame(5 * SECOND)).dropped is None
    assert mailbox.offer(frame(5 * SECOND)).dropped == "stamp_not_newer"
    assert mailbox.offer(frame(4 * SECOND)).dropped == "stamp_not_newer"
    assert mailbox.counts().newest_ns == 5 * SECOND


@given(
    stamps=st.lists(st.integers(-2, 40), max_size=60),
    takes=st.lists(st.sampled_from(["take", "encode", "drop", "wait"]), max_size=60),
    sample_fps=st.sampled_from([0.2, 1.0, 3.0]),
)
def test_every_frame_is_accounted_for_at_every_moment(stamps: list[int], takes: list[str], sample_fps: float) -> None:
    mailbox = Mailbox(sample_fps)
    in_work = 0
    for index, stamp in enumerate(stamps):
        if stamp == -2:
            mailbox.reject("zero_size")
        else:
            mailbox.offer(frame(stamp * SECOND // 4))
        action = takes[index] if index < len(takes) else "wait"
        if action == "take":
            in_work += mailbox.take() is not None
        elif in_work and action == "encode":
            mailbox.encoded()
            in_work -= 1
        elif in_work and action == "drop":
            mailbox.dropped("undecodable")
            in_work -= 1
        assert balanced(mailbox.counts())
    assert mailbox.counts().received == len(stamps)


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
