"""Log of a node: limits its rate, and escapes text from outside. All log lines of this package pass through it."""

from __future__ import annotations

import threading
import time

from flash_vstream_ros.engine.log_text import log_entry
from flash_vstream_ros.ros import Node

MAX_LINES = 100  # log lines of one severity in PERIOD_S
PERIOD_S = 10.0


class LineBudget:
    """Allows MAX_LINES log lines in PERIOD_S and counts the others. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began_s = 0.0
        self._lines = self._left_out = 0

    def allowed(self, text: str) -> str:
        """`text` with a note on earlier lines that were left out; "" if this one is to be left out."""
        now = time.monotonic()
        with self._lock:
            if now - self._began_s >= PERIOD_S:
                self._began_s, self._lines = now, 0
            if self._lines >= MAX_LINES:
                self._left_out += 1
                return ""
            self._lines += 1
            left_out, self._left_out = self._left_out, 0
        return text + (f" ({left_out} log lines left out before: more than {MAX_LINES} in a burst)" if left_out else "")


class NodeLog:
    """Writes to a node's logger. No text from outside can forge a log line, control a terminal or fill the disk."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._infos, self._warnings, self._errors = LineBudget(), LineBudget(), LineBudget()

    # One call per severity: rclpy raises if the same line of code logs with two severities.
    def info(self, text: str) -> None:
        logger, entry = self._node.get_logger(), self._infos.allowed(log_entry(text))
        if entry:
            logger.info(entry)

    def warning(self, text: str) -> None:
        logger, entry = self._node.get_logger(), self._warnings.allowed(log_entry(text))
        if entry:
            logger.warning(entry)

    def error(self, text: str) -> None:
        logger, entry = self._node.get_logger(), self._errors.allowed(log_entry(text))
        if entry:
            logger.error(entry)
