"""Loggers with rclpy's methods and the console format of rcl."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any


class LoggingSeverity(IntEnum):
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
    """Set the least severity printed for `name` and what is under it; "" is everything."""
    _levels[name] = LoggingSeverity(level)


def get_logger_effective_level(name: str) -> LoggingSeverity:
    while name:
        level = _levels.get(name, LoggingSeverity.UNSET)
        if level:
            return level
        name = name.rpartition(".")[0]
    return _levels[""]


def severity(text: str) -> LoggingSeverity:
    """The severity of a word such as "debug" or "warning". Raises ValueError."""
    names = {"WARNING": "WARN", "CRITICAL": "FATAL"}
    word = text.strip().upper()
    word = names.get(word, word)
    if word == "UNSET" or word not in LoggingSeverity.__members__:
        raise ValueError(f"{text!r} is no log level, expected debug, info, warn, error or fatal")
    return LoggingSeverity[word]


def add_sink(sink: Sink) -> None:
    """Also hand every printed line to `sink(severity, logger name, text, stamp in ns)`."""
    _sinks.append(sink)


def remove_sink(sink: Sink) -> None:
    if sink in _sinks:
        _sinks.remove(sink)


class RcutilsLogger:
    """A named logger. One call site is known by its file and line, for `once` and `throttle_duration_sec`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._last: dict[tuple[str, int], float] = {}

    def get_child(self, name: str) -> RcutilsLogger:
        return get_logger(f"{self.name}.{name}" if self.name else name)

    def set_level(self, level: LoggingSeverity | int) -> None:
        set_logger_level(self.name, level)

    def get_effective_level(self) -> LoggingSeverity:
        return get_logger_effective_level(self.name)

    def is_enabled_for(self, level: LoggingSeverity | int) -> bool:
        return level >= self.get_effective_level()

    def debug(self, message: Any, **options: Any) -> bool:
        return self._log(LoggingSeverity.DEBUG, message, **options)

    def info(self, message: Any, **options: Any) -> bool:
        return self._log(LoggingSeverity.INFO, message, **options)

    def warning(self, message: Any, **options: Any) -> bool:
        return self._log(LoggingSeverity.WARN, message, **options)

    warn = warning

    def error(self, message: Any, **options: Any) -> bool:
        return self._log(LoggingSeverity.ERROR, message, **options)

    def fatal(self, message: Any, **options: Any) -> bool:
        return self._log(LoggingSeverity.FATAL, message, **options)

    def log(self, message: Any, severity: LoggingSeverity | int, **options: Any) -> bool:
        return self._log(LoggingSeverity(severity), message, **options)

    def _log(
        self,
        level: LoggingSeverity,
        message: Any,
        *,
        once: bool = False,
        skip_first: bool = False,
        throttle_duration_sec: float | None = None,
        throttle_time_source_type: Any = None,
    ) -> bool:
        if (once or skip_first or throttle_duration_sec) and not self._due(
            once, skip_first, throttle_duration_sec or 0.0
        ):
            return False
        if not self.is_enabled_for(level):
            return False
        stamp = time.time_ns()
        _print(level, self.name, str(message), stamp)
        return True

    def _due(self, once: bool, skip_first: bool, period: float) -> bool:
        caller = sys._getframe(3)
        site = (caller.f_code.co_filename, caller.f_lineno)
        last = self._last.get(site)
        now = time.monotonic()
        if last is None:
            self._last[site] = now
            return not skip_first
        if once or now - last < period:
            return False
        self._last[site] = now
        return True


def _print(level: LoggingSeverity, name: str, text: str, stamp: int) -> None:
    line = f"[{level.name}] [{stamp // 10**9}.{stamp % 10**9:09d}] [{name}]: {text}\n"
    stream = sys.stdout if os.environ.get("RCUTILS_LOGGING_USE_STDOUT") == "1" else sys.stderr
    with _console:
        try:
            stream.write(line)
            stream.flush()
        except (OSError, ValueError):
            pass  # a closed console must not stop the node
    for sink in _sinks:
        sink(level, name, text, stamp)


_loggers: dict[str, RcutilsLogger] = {}


def get_logger(name: str) -> RcutilsLogger:
    return _loggers.setdefault(name, RcutilsLogger(name))
