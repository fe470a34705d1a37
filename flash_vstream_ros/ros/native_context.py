"""Starts rclpy without enabling signals that the process ignores."""

from __future__ import annotations

import signal
import threading
from typing import Any

import rclpy


def init(**options: Any) -> None:
    """Call rclpy.init. Signals that the process ignores stay ignored, such as SIGINT after a shell's `&`."""
    ignored = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is signal.SIG_IGN]
    rclpy.init(**options)
    if threading.current_thread() is threading.main_thread():
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
