"""Callbacks that a defect does not take out of the executor: rclpy would end the node."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

from flash_vstream_ros.ros import ok


def never_raises(callback: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose defect is said through its object's `_log` and costs that call alone, which gives None."""

    @wraps(callback)
    def guarded(self: Any, *args: Any) -> Any:
        try:
            return callback(self, *args)
        except Exception:
            if ok():
                self._log.report(callback.__name__, f"a defect in {callback.__qualname__}: {traceback.format_exc()}")
            return None

    return guarded
