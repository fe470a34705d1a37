"""The names of `flash_vstream_ros.ros`, from an installed ROS 2."""

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy import init, ok, shutdown, spin, spin_once, spin_until_future_complete, try_shutdown
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterException,
    ParameterNotDeclaredException,
)
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation  # its module's name changes with the binding
from rclpy.lifecycle import LifecycleNode, LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.logging import LoggingSeverity, get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import (
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
from rclpy.task import Future
from rclpy.time import Time

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # before Iron
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError

from .native_executor import MultiThreadedExecutor

ROSArgumentError = rclpy_implementation.RCLInvalidROSArgsError

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
