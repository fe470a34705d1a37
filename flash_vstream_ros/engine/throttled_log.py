"""Warnings and errors said once in a while, counted always."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

QUIET_S = 10.0


class ThrottledLog:
    """Passes each kind of trouble on at most once in ten seconds and remembers the newest sentence. Thread safe."""

    def __init__(self, sink: Callable[[str], None], quiet_s: float = QUIET_S) -> None:
        self._sink = sink
        self._quiet_s = quiet_s
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}
        self._held_back: dict[str, int] = {}
        self._newest = ""

    @property
    def newest(self) -> str:
        with self._lock:
            return self._newest

    def report(self, kind: str, sentence: str) -> None:
        """Say `sentence`, unless one of the same `kind` was said just now."""
        now = time.monotonic()
        with self._lock:
            self._newest = sentence
            if now - self._said.get(kind, -self._quiet_s) < self._quiet_s:
                self._held_back[kind] = self._held_back.get(kind, 0) + 1
                return
            self._said[kind] = now
            repeats = self._held_back.pop(kind, 0)
        self._sink(sentence + (f" ({repeats} more like it since it was last said)" if repeats else ""))
