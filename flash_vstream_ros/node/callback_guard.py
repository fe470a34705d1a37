"""Keeps a node running when a callback raises an exception; rclpy would end the node."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.ros import ExternalShutdownException, MultiThreadedExecutor

PAUSE_S = 0.001  # after a failure, so that a repeated one does not occupy a core


def never_raises(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a method: an exception is reported to the object's `_log`, and the call returns None."""

    @wraps(callback)
    def guarded(self: Any, *args: Any) -> Any:
        try:
            return callback(self, *args)
        except Exception:
            self._log.report(callback.__name__, f"exception in {callback.__qualname__}: {traceback.format_exc()}")
            return None

    return guarded


def spin_guarded(executor: MultiThreadedExecutor, log: ThrottledLog) -> None:
    """Spin until the context or the executor is shut down, and log exceptions of the runtime's own callbacks.

    These callbacks serve /clock, clock jumps and parameters; `never_raises` cannot decorate them.
    """
    while not _spin_until_shutdown(executor, log):
        time.sleep(PAUSE_S)


def _spin_until_shutdown(executor: MultiThreadedExecutor, log: ThrottledLog) -> bool:
    """Returns False if a callback failed."""
    try:
        executor.spin()
    except ExternalShutdownException:
        return True
    except Exception:
        log.report("executor", f"a callback of the runtime failed: {traceback.format_exc()}")
        return False
    return True
