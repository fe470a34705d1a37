"""Loggers with rclpy's methods and the console format of rcl."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any


class LoggingSeverity(IntEnum):
    """The severities of rcutils."""

    UNSET = 0
    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40
    FATAL = 50


Sink = Callable[[LoggingSeverity, str, str, int], None]

_levels: dict[str, LoggingSeverity] = {"": LoggingSeverity.INFO}
_sinks: list[Sink] = []
_console = threading.Lock()


def set_logger_level(name: str, level: LoggingSeverity | int) -> None:
    """Set the lowest severity that is printed for the logger `name` and its children; "" is the root."""
    _levels[name] = LoggingSeverity(level)


def get_logger_effective_level(name: str) -> LoggingSeverity:
    while name:
        level = _levels.get(name, LoggingSeverity.UNSET)
        if level:
            return level
        name = name.rpartition(".")[0]
    return _levels[""]


def severity(text: str) -> LoggingSeverity:
    """The severity of a word such as "debug" or "warn". Raises ValueError."""
    word = text.upper()
    if word == "UNSET" or word not in LoggingSeverity.__members__:
        raise ValueError(f"{text!r} is not a log level, expected debug, info, warn, error or fatal")
    return LoggingSeverity[word]


def add_sink(sink: Sink) -> None:
    """Also pass every printed line to `sink(severity, logger name, text, stamp in ns)`."""
    _sinks.append(sink)


def remove_sink(sink: Sink) -> None:
    if sink in _sinks:
        _sinks.remove(sink)


class RcutilsLogger:
    """A named logger. `throttle_duration_sec` applies to each call site, a file and line, separately."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._last: dict[tuple[str, int], float] = {}

    def debug(self, message: Any, **options: Any) -> bool:
        return self._log(LoggingSeverity.DEBUG, message, **options)

    def info(self, message: Any, **options: Any) -> bool:
        return self._log(LoggingSeverity.INFO, message, **options)

    def warning(self, message: Any, **options: Any) -> bool:
        return self._log(LoggingSeverity.WARN, message, **options)

    def error(self, message: Any, **options: Any) -> bool:
        return self._log(LoggingSeverity.ERROR, message, **options)

    def _log(self, level: LoggingSeverity, message: Any, *, throttle_duration_sec: float = 0.0) -> bool:
        if throttle_duration_sec and not self._due(throttle_duration_sec):
            return False
        if level < get_logger_effective_level(self.name):
            return False
        _print(level, self.name, str(message), time.time_ns())
        return True

    def _due(self, period: float) -> bool:
        caller = sys._getframe(3)
        site = (caller.f_code.co_filename, caller.f_lineno)
        now = time.monotonic()
        if now - self._last.get(site, -math.inf) < period:
            return False
        self._last[site] = now
        return True


def _print(level: LoggingSeverity, name: str, text: str, stamp: int) -> None:
    text = text.encode(errors="replace").decode()
    line = f"[{level.name}] [{stamp // 10**9}.{stamp % 10**9:09d}] [{name}]: {text.translate(_PRINTABLE)}\n"
    stream = sys.stdout if os.environ.get("RCUTILS_LOGGING_USE_STDOUT") == "1" else sys.stderr
    with _console:
        try:
            stream.write(line)
            stream.flush()
        except (OSError, ValueError):
            pass  # a closed console must not end the node
    for sink in _sinks:
        sink(level, name, text, stamp)


# A peer's text must neither move the cursor nor begin a line that looks like a log line.
_PRINTABLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {9: "\t", 10: "\n  "}

_loggers: dict[str, RcutilsLogger] = {}


def get_logger(name: str) -> RcutilsLogger:
    return _loggers.setdefault(name, RcutilsLogger(name))
