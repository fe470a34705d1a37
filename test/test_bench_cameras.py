"""The camera benchmark accounts for every image: received, or lost in the queue or on the wire."""

from __future__ import annotations

import pytest

from flash_vstream_ros.bench import cameras
from flash_vstream_ros.bench.cameras import NO_FRAMES, Arrival, account
from flash_vstream_ros.engine.answering.question import ErrorCode
from flash_vstream_ros.engine.ingest.mailbox import FrameCounts

pytestmark = pytest.mark.slow  # starts nodes in processes of their own

HERTZ = 10.0


def counts(received: int, **drops: int) -> FrameCounts:
    not_sampled = received - sum(drops.values())
    return FrameCounts(received, 0, not_sampled, 0, tuple(sorted(drops.items())), 0)


def sent(frames: int) -> dict[str, float]:
    return {"sent": frames, "given_up": 0, "late_s": 0.0}


def arrived(*numbers: int, late_s: float = 0.0) -> list[Arrival]:
    return [Arrival(number, 100.0 + number / HERTZ + late_s, 0.0) for number in numbers]


def test_counts_balance_when_every_image_arrives() -> None:
    own = account(sent(5), arrived(0, 1, 2, 3, 4), counts(5, superseded=2), HERTZ)
    assert (own.received, own.queue_overran, own.lost_on_the_wire, own.dropped) == (5, 0, 0, {"superseded": 2})
    assert own.balanced


def test_images_missing_before_a_punctual_callback_are_counted_as_lost_on_the_wire() -> None:
    own = account(sent(9), arrived(1, 2, 5, 6), counts(4), HERTZ)
    assert (own.queue_overran, own.lost_on_the_wire) == (0, 5)
    assert own.balanced


def test_images_missing_before_a_late_callback_are_counted_as_overwritten_in_the_queue() -> None:
    own = account(sent(12), arrived(0, 1) + arrived(7, 8, 9, 10, 11, late_s=0.5), counts(7), HERTZ)
    assert (own.queue_overran, own.lost_on_the_wire) == (5, 0)
    assert own.balanced


@pytest.mark.parametrize(
    ("frames", "numbers", "received"),
    [(3, (0, 1, 1, 2), 4), (3, (0, 1, 2), 2)],
    ids=["one came twice", "one is in no count"],
)
def test_counts_do_not_balance_when_an_image_is_uncounted_or_counted_twice(
    frames: int, numbers: tuple[int, ...], received: int
) -> None:
    assert not account(sent(frames), arrived(*numbers), counts(received), HERTZ).balanced


def test_when_nothing_arrives_all_images_are_counted_as_lost_on_the_wire() -> None:
    assert account(sent(3), [], counts(0), HERTZ).lost_on_the_wire == 3


@pytest.mark.parametrize("reliability", ["best_effort", "reliable"])
def test_two_small_cameras_are_accounted_for(capsys: pytest.CaptureFixture[str], reliability: str) -> None:
    result = cameras.run(count=2, width=160, height=120, hertz=5.0, seconds=3.0, reliability=reliability)
    assert result["balanced"]
    assert [own["sent"] for own in result["cameras"].values()] == [15, 15]
    assert all(own["received"] > 0 for own in result["cameras"].values())
    assert result["answered"] + result["asked_too_early"] > 0
    assert result["not_answered"] == 0
    assert NO_FRAMES == ErrorCode.NO_FRAMES
    assert 0 < result["callback_p50_s"] <= result["callback_p99_s"] <= result["callback_longest_s"]
    assert 0 < result["callback_cpu_p50_s"] <= result["callback_cpu_p99_s"]
    cameras.show(result)
    assert "accounts balance" in capsys.readouterr().out
