"""Converts stamps and durations of messages to nanoseconds or seconds, and back.

The fields of a message, int32 seconds and uint32 nanoseconds, can hold invalid stamps. These are refused on arrival, so
that every stamp inside the node can be sent again.
"""

from __future__ import annotations

from .interfaces import DurationMsg, TimeMsg

SECOND_NS = 1_000_000_000
LATEST_NS = (1 << 31) * SECOND_NS - 1  # limit of int32 seconds
EARLIEST_NS = -(1 << 31) * SECOND_NS


class BadStamp(ValueError):
    """A stamp or duration outside its range; `reason` is a short name to count it by."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def stamp_ns(stamp: TimeMsg) -> int:
    """A stamp in nanoseconds. Raises BadStamp if it is negative or its nanosec field is a second or more."""
    if stamp.sec < 0:
        raise BadStamp("negative_stamp", f"its stamp has sec {stamp.sec}; a stamp must not be negative")
    return _nanoseconds(stamp)


def duration_ns(duration: DurationMsg) -> int:
    """A duration in nanoseconds; it may be negative. Raises BadStamp if its nanosec field is a second or more."""
    return _nanoseconds(duration)


def seconds(part: TimeMsg | DurationMsg) -> float:
    """A stamp or a duration in seconds."""
    return float(part.sec + part.nanosec * 1e-9)


def stamp_message(nanoseconds: int) -> TimeMsg:
    """Nanoseconds as a stamp, limited to the range of a message."""
    sec, nanosec = _parts(nanoseconds)
    return TimeMsg(sec=sec, nanosec=nanosec)


def stamp_at(seconds: float) -> TimeMsg:
    """Seconds as a stamp, limited to the range of a message."""
    return stamp_message(round(seconds * SECOND_NS))


def duration_message(seconds: float) -> DurationMsg:
    """Seconds as a duration, limited to the range of a message."""
    sec, nanosec = _parts(round(seconds * SECOND_NS))
    return DurationMsg(sec=sec, nanosec=nanosec)


def _nanoseconds(part: TimeMsg | DurationMsg) -> int:
    if part.nanosec >= SECOND_NS:
        raise BadStamp("nanosec_out_of_range", f"nanosec is {part.nanosec}; it must be less than {SECOND_NS}")
    return int(part.sec) * SECOND_NS + int(part.nanosec)


def _parts(nanoseconds: int) -> tuple[int, int]:
    return divmod(min(max(nanoseconds, EARLIEST_NS), LATEST_NS), SECOND_NS)
