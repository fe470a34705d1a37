"""Simulated time: while `use_sim_time` is true, the node's clock follows the topic /clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .callback_groups import ReentrantCallbackGroup
from .duration import NANOSECONDS
from .parameter import Parameter
from .qos import QoSProfile, ReliabilityPolicy
from .types import message_class

if TYPE_CHECKING:
    from .node import Node

USE_SIM_TIME = "use_sim_time"


class TimeSource:
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
        if self._subscription is not None:
            self._node.ros_clock.simulate(message.clock.sec * NANOSECONDS + message.clock.nanosec)
            self._node.context.bell.ring()
