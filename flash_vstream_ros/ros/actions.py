"""Access to actions, which only rclpy has. The functions may be called only if HAS_ACTIONS is True."""

from __future__ import annotations

import importlib
from typing import Any

from . import RUNTIME

HAS_ACTIONS = RUNTIME == "rclpy"


def load_action(type_name: str) -> Any:
    """The class of an action with a full name such as "flash_vstream_ros/action/AskScene"."""
    package, kind, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)


def rclpy_action() -> Any:
    """The module rclpy.action, with ActionServer and ActionClient."""
    return importlib.import_module("rclpy.action")
