"""Clocks: system time, steady time, and ROS time, which follows /clock if `use_sim_time` is set."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .callback_groups import ReentrantCallbackGroup
from .parameter import Parameter
from .qos import QoSProfile, ReliabilityPolicy
from .time import SECOND_NS, ClockType, Time
from .types import message_class

if TYPE_CHECKING:
    from .node import Node

USE_SIM_TIME = "use_sim_time"


class Clock:
    """System time or steady time, as rclpy.clock.Clock."""

    def __init__(self, *, clock_type: ClockType = ClockType.SYSTEM_TIME) -> None:
        self._clock_type = clock_type

    def now(self) -> Time:
        steady = self._clock_type == ClockType.STEADY_TIME
        return Time(nanoseconds=time.monotonic_ns() if steady else time.time_ns(), clock_type=self._clock_type)


class ROSClock(Clock):
    """System time, or the simulated time that `simulate` sets."""

    def __init__(self) -> None:
        super().__init__(clock_type=ClockType.ROS_TIME)
        self._simulated_ns: int | None = None

    @property
    def ros_time_is_active(self) -> bool:
        """Returns True if the time comes from /clock; it is 0 until the first message."""
        return self._simulated_ns is not None

    def now(self) -> Time:
        if self._simulated_ns is None:
            return super().now()
        return Time(nanoseconds=self._simulated_ns, clock_type=ClockType.ROS_TIME)

    def simulate(self, nanoseconds: int | None) -> None:
        """Set the clock to a simulated time, or back to the system time (None)."""
        self._simulated_ns = nanoseconds


class TimeSource:
    """Lets a node's clock follow the topic /clock while the parameter `use_sim_time` is true."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._subscription: Any = None
        if not node.has_parameter(USE_SIM_TIME):
            node.declare_parameter(USE_SIM_TIME, False)
        node.add_post_set_parameters_callback(self._on_parameters)
        self._follow(bool(node.get_parameter(USE_SIM_TIME).value))

    def _on_parameters(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name == USE_SIM_TIME:
                self._follow(bool(parameter.value))

    def _follow(self, simulated: bool) -> None:
        if simulated and self._subscription is None:
            self._node.ros_clock.simulate(0)
            self._subscription = self._node.create_subscription(
                message_class("rosgraph_msgs/msg/Clock"),
                "/clock",
                self._on_clock,
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
                callback_group=ReentrantCallbackGroup(),
            )
        elif not simulated and self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
            self._node.ros_clock.simulate(None)

    def _on_clock(self, message: Any) -> None:
        if message.clock.sec < 0 or message.clock.nanosec >= SECOND_NS:
            self._node.get_logger().warning("/clock is ignored: its time is out of range", throttle_duration_sec=10.0)
        elif self._subscription is not None:
            self._node.ros_clock.simulate(message.clock.sec * SECOND_NS + message.clock.nanosec)
            self._node.context.notifier.notify()
