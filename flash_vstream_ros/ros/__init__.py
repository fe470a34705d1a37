"""The only import path to ROS 2: rclpy if it is installed, else the embedded runtime, under the same names.

The environment variable FLASH_VSTREAM_RUNTIME ("rclpy" or "embedded") selects one of them. May import nothing from the
rest of the package except the generated `msg`, `srv` and `action`; only this file imports `embedded`.
"""

# ruff: noqa: F405 (the names of `__all__` come with the runtime)

from __future__ import annotations

import importlib
import os
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .share import PACKAGE, share_directory

VARIABLE = "FLASH_VSTREAM_RUNTIME"
REQUIREMENTS = {"cyclonedds": "cyclonedds==11.0.1", "rosbags": "'rosbags>=0.11'", "yaml": "pyyaml"}

__all__ = [
    "Clock",
    "ClockType",
    "Context",
    "DurabilityPolicy",
    "Duration",
    "ExternalShutdownException",
    "FloatingPointRange",
    "HistoryPolicy",
    "ImageCallbackGroup",
    "IntegerRange",
    "LifecycleNodeMixin",
    "LifecycleState",
    "MultiThreadedExecutor",
    "MutuallyExclusiveCallbackGroup",
    "Node",
    "Parameter",
    "ParameterDescriptor",
    "QoSProfile",
    "ROSArgumentError",
    "ReentrantCallbackGroup",
    "ReliabilityPolicy",
    "SetParametersResult",
    "SignalHandlerOptions",
    "SingleThreadedExecutor",
    "SubscriptionEventCallbacks",
    "TransitionCallbackReturn",
    "UnsupportedEventTypeError",
    "get_logger",
    "init",
    "load_interface",
    "ok",
    "qos_profile_sensor_data",
    "shutdown",
    "spin",
    "try_shutdown",
]


def _choose() -> str:
    forced = os.environ.get(VARIABLE, "")
    if forced not in ("", "rclpy", "embedded"):
        raise ImportError(f"{VARIABLE} is {forced!r}, expected 'rclpy' or 'embedded'")
    if forced == "rclpy" or (not forced and _rclpy_imports()):
        _require_generated_interfaces()
        return "rclpy"
    _require_embedded()
    return "embedded"


def _rclpy_imports() -> bool:
    found = find_spec("rclpy")
    if found is None or found.origin is None:  # no origin: a folder that only has the same name
        return False
    try:
        importlib.import_module("rclpy")
    except ImportError as error:
        warnings.warn(f"rclpy is installed but fails to import ({error}); using the embedded runtime", stacklevel=2)
        return False
    return True


def _require_generated_interfaces() -> None:
    importlib.import_module("rclpy")
    try:
        importlib.import_module("flash_vstream_ros.msg")
        importlib.import_module("flash_vstream_ros.srv")
        importlib.import_module("flash_vstream_ros.action")
    except ImportError as error:
        raise ImportError(
            "rclpy is installed, but the messages, services and actions of flash_vstream_ros are not generated for it: "
            f"build this package with colcon and source its workspace, or set {VARIABLE}=embedded"
        ) from error


def _require_embedded() -> None:
    try:
        for module in REQUIREMENTS:
            importlib.import_module(module)
    except Exception as error:  # a broken C library raises anything
        raise ImportError(
            f"The embedded ROS 2 runtime fails to load ({error}): pip install {' '.join(REQUIREMENTS.values())}, "
            "or source a ROS 2 installation to use its rclpy"
        ) from error


def _load() -> Any:
    if RUNTIME == "rclpy":
        return importlib.import_module(".native", __name__)
    runtime = importlib.import_module(".embedded", __name__)
    try:
        runtime.add_interfaces(PACKAGE, share_directory())
    except FileNotFoundError as error:
        raise ImportError(str(error)) from error
    return runtime


RUNTIME = _choose()

if TYPE_CHECKING:
    from .embedded import *  # noqa: F403
else:
    _runtime = _load()
    globals().update({name: getattr(_runtime, name) for name in __all__})
