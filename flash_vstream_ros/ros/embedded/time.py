"""Times and durations in nanoseconds, as in rclpy.time.Time and rclpy.duration.Duration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .types import message_class

SECOND_NS = 1_000_000_000


class ClockType(IntEnum):
    """The clocks of rclpy.clock."""

    ROS_TIME = 1
    SYSTEM_TIME = 2
    STEADY_TIME = 3


@dataclass(frozen=True)
class Time:
    """A point in time of one clock."""

    nanoseconds: int
    clock_type: ClockType = ClockType.SYSTEM_TIME

    def to_msg(self) -> Any:
        seconds, nanoseconds = divmod(self.nanoseconds, SECOND_NS)
        return message_class("builtin_interfaces/msg/Time")(sec=seconds, nanosec=nanoseconds)


class Duration:
    """A span of time, of seconds plus nanoseconds."""

    def __init__(self, *, seconds: float = 0, nanoseconds: int = 0) -> None:
        self.nanoseconds = int(seconds * SECOND_NS) + int(nanoseconds)
