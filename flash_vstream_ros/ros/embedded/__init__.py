"""The embedded runtime: the part of rclpy that this package needs, on Cyclone DDS and rosbags, without ROS 2.

It imports nothing from the rest of the package, and only `flash_vstream_ros.ros` imports it.
"""

# ruff: noqa: F401 (flash_vstream_ros.ros exports these names)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .callback_groups import ImageCallbackGroup, MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from .clock import Clock
from .context import Context, SignalHandlerOptions, get_default_context
from .exceptions import ExternalShutdownException, ROSArgumentError, UnsupportedEventTypeError
from .executors import MultiThreadedExecutor, SingleThreadedExecutor
from .lifecycle import LifecycleNodeMixin
from .lifecycle_states import LifecycleState, TransitionCallbackReturn
from .logging import get_logger
from .node import Node
from .parameter import Parameter
from .qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from .subscription import SubscriptionEventCallbacks
from .time import ClockType, Duration
from .types import add_interfaces, load_interface, message_class

FloatingPointRange: Any = message_class("rcl_interfaces/msg/FloatingPointRange")
IntegerRange: Any = message_class("rcl_interfaces/msg/IntegerRange")
ParameterDescriptor: Any = message_class("rcl_interfaces/msg/ParameterDescriptor")
SetParametersResult: Any = message_class("rcl_interfaces/msg/SetParametersResult")


def init(
    args: Sequence[str] | None = None,
    *,
    context: Context | None = None,
    domain_id: int | None = None,
    signal_handler_options: SignalHandlerOptions | None = None,
) -> None:
    """Start the runtime. `args` defaults to sys.argv.

    As in rclpy, SIGINT and SIGTERM end the default context only, unless `signal_handler_options` is given.
    """
    chosen = context or get_default_context()
    chosen.init(args, domain_id=domain_id)
    default = SignalHandlerOptions.ALL if chosen is get_default_context() else SignalHandlerOptions.NO
    chosen.install_signal_handlers(signal_handler_options or default)


def shutdown(*, context: Context | None = None) -> None:
    """Leave the network. Raises RuntimeError if the runtime was shut down already."""
    (context or get_default_context()).shutdown()


def try_shutdown(*, context: Context | None = None) -> None:
    """Leave the network, unless the runtime was shut down already."""
    (context or get_default_context()).try_shutdown()


def ok(*, context: Context | None = None) -> bool:
    """Returns True if the runtime was started, and neither shut down nor ended by a signal."""
    return (context or get_default_context()).ok()


def spin(node: Node) -> None:
    """Run a node's callbacks until the runtime ends. Raises what Executor.spin() raises."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    try:
        executor.spin()
    finally:
        executor.remove_node(node)
