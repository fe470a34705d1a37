"""The names of `flash_vstream_ros.ros`, from an installed ROS 2."""

# ruff: noqa: F401 (flash_vstream_ros.ros exports these names)

import importlib
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy import ok, shutdown, spin, try_shutdown
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation  # its module's name changes with the binding
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # before Iron
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

from .native_context import init
from .native_executor import ImageCallbackGroup, MultiThreadedExecutor
from .native_lifecycle import LifecycleNodeMixin

ROSArgumentError = rclpy_implementation.RCLInvalidROSArgsError


def load_interface(type_name: str) -> Any:
    """The class of a message or service with this full name. Raises LookupError if its package is not installed."""
    package, kind, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"No Python class of {type_name}: is {package} installed and sourced?") from error
