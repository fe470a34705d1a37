"""The part of rclpy that this package needs, over Cyclone DDS and rosbags, without a ROS installation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from .clock import Clock
from .context import Context, get_default_context
from .duration import Duration
from .event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError
from .exceptions import (
    ExternalShutdownException,
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterException,
    ParameterNotDeclaredException,
    ROSArgumentError,
)
from .executors import Executor, MultiThreadedExecutor, SingleThreadedExecutor
from .lifecycle import LifecycleNode, LifecycleNodeMixin
from .lifecycle_states import LifecycleState, TransitionCallbackReturn
from .logging import LoggingSeverity, get_logger
from .node import Node
from .parameter import Parameter
from .qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    ReliabilityPolicy,
    qos_profile_sensor_data,
    qos_profile_services_default,
    qos_profile_system_default,
)
from .task import Future
from .time import ClockType, Time
from .types import message_class

FloatingPointRange: Any = message_class("rcl_interfaces/msg/FloatingPointRange")
IntegerRange: Any = message_class("rcl_interfaces/msg/IntegerRange")
ParameterDescriptor: Any = message_class("rcl_interfaces/msg/ParameterDescriptor")
SetParametersResult: Any = message_class("rcl_interfaces/msg/SetParametersResult")


def init(args: Sequence[str] | None = None, *, context: Context | None = None, domain_id: int | None = None) -> None:
    """Start the runtime and let SIGINT and SIGTERM end it. `args` defaults to sys.argv."""
    chosen = context or get_default_context()
    chosen.init(args, domain_id=domain_id)
    chosen.install_signal_handlers()


def shutdown(*, context: Context | None = None) -> None:
    """Leave the network. Raises RuntimeError when that was done already."""
    (context or get_default_context()).shutdown()


def try_shutdown(*, context: Context | None = None) -> None:
    """Leave the network if that was not done already."""
    (context or get_default_context()).try_shutdown()


def ok(*, context: Context | None = None) -> bool:
    """Whether the runtime was started and neither shut down nor signalled to end."""
    return (context or get_default_context()).ok()


def create_node(node_name: str, **options: Any) -> Node:
    return Node(node_name, **options)


def _executor(executor: Executor | None, node: Node) -> Executor:
    return executor or SingleThreadedExecutor(context=node.context)


def spin(node: Node, executor: Executor | None = None) -> None:
    """Run a node's callbacks until the runtime ends. Raises what Executor.spin() raises."""
    chosen = _executor(executor, node)
    chosen.add_node(node)
    try:
        chosen.spin()
    finally:
        chosen.remove_node(node)


def spin_once(node: Node, *, executor: Executor | None = None, timeout_sec: float | None = None) -> None:
    """Run one callback of a node, or none within `timeout_sec`."""
    chosen = _executor(executor, node)
    chosen.add_node(node)
    try:
        chosen.spin_once(timeout_sec)
    finally:
        chosen.remove_node(node)


def spin_until_future_complete(
    node: Node, future: Future, executor: Executor | None = None, timeout_sec: float | None = None
) -> None:
    """Run a node's callbacks until `future` is done, or for `timeout_sec`."""
    chosen = _executor(executor, node)
    chosen.add_node(node)
    try:
        chosen.spin_until_future_complete(future, timeout_sec)
    finally:
        chosen.remove_node(node)


__all__ = [
    "Clock",
    "ClockType",
    "Context",
    "DurabilityPolicy",
    "Duration",
    "ExternalShutdownException",
    "FloatingPointRange",
    "Future",
    "HistoryPolicy",
    "IntegerRange",
    "InvalidParameterTypeException",
    "InvalidParameterValueException",
    "LifecycleNode",
    "LifecycleNodeMixin",
    "LifecycleState",
    "LoggingSeverity",
    "MultiThreadedExecutor",
    "MutuallyExclusiveCallbackGroup",
    "Node",
    "Parameter",
    "ParameterAlreadyDeclaredException",
    "ParameterDescriptor",
    "ParameterException",
    "ParameterNotDeclaredException",
    "PublisherEventCallbacks",
    "QoSDurabilityPolicy",
    "QoSHistoryPolicy",
    "QoSProfile",
    "QoSReliabilityPolicy",
    "ROSArgumentError",
    "ReentrantCallbackGroup",
    "ReliabilityPolicy",
    "SetParametersResult",
    "SingleThreadedExecutor",
    "SubscriptionEventCallbacks",
    "Time",
    "TransitionCallbackReturn",
    "UnsupportedEventTypeError",
    "get_logger",
    "init",
    "ok",
    "qos_profile_sensor_data",
    "qos_profile_services_default",
    "qos_profile_system_default",
    "shutdown",
    "spin",
    "spin_once",
    "spin_until_future_complete",
    "try_shutdown",
]
