"""Action servers of rclpy; the embedded runtime has no actions."""

from __future__ import annotations

import importlib
from typing import Any

from . import RUNTIME

HAS_ACTIONS = RUNTIME == "rclpy"


def load_action(type_name: str) -> Any:
    """The class of an action with a full name such as "flash_vstream_ros/action/AskScene"; only with HAS_ACTIONS."""
    package, kind, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)


def rclpy_action() -> Any:
    """The module rclpy.action; only with HAS_ACTIONS."""
    return importlib.import_module("rclpy.action")
