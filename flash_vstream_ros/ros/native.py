"""The names of `flash_vstream_ros.ros`, from an installed ROS 2."""

# ruff: noqa: F401 (the door takes its names from here)

import importlib
import signal
import threading
from typing import Any

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy import ok, shutdown, spin, try_shutdown
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation  # its module's name changes with the binding
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # before Iron
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

from .native_executor import MultiThreadedExecutor

ROSArgumentError = rclpy_implementation.RCLInvalidROSArgsError


def init(**options: Any) -> None:
    """rclpy.init, which would handle signals that the parent process ignores, as a shell does SIGINT for its `&`."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    ignored = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is signal.SIG_IGN]
    rclpy.init(**options)
    if in_main_thread:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


def load_interface(type_name: str) -> Any:
    """The class of a message or service by its full name. Raises LookupError if its package is not installed."""
    package, kind, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"No Python class of {type_name}: is {package} installed and sourced?") from error
