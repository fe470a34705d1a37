"""Clocks: the system's, a steady one, and ROS time, which follows /clock where `use_sim_time` is set."""

from __future__ import annotations

import time

from .time import ClockType, Time


class Clock:
    def __init__(self, *, clock_type: ClockType = ClockType.SYSTEM_TIME) -> None:
        self._clock_type = clock_type

    @property
    def clock_type(self) -> ClockType:
        return self._clock_type

    def now(self) -> Time:
        steady = self._clock_type == ClockType.STEADY_TIME
        return Time(nanoseconds=time.monotonic_ns() if steady else time.time_ns(), clock_type=self._clock_type)


class ROSClock(Clock):
    def __init__(self) -> None:
        super().__init__(clock_type=ClockType.ROS_TIME)
        self._simulated_ns: int | None = None

    @property
    def ros_time_is_active(self) -> bool:
        """Whether the time comes from /clock; it is 0 until the first message."""
        return self._simulated_ns is not None

    def now(self) -> Time:
        if self._simulated_ns is None:
            return super().now()
        return Time(nanoseconds=self._simulated_ns, clock_type=ClockType.ROS_TIME)

    def simulate(self, nanoseconds: int | None) -> None:
        """Hold the clock at a simulated time; None gives it back to the system."""
        self._simulated_ns = nanoseconds
