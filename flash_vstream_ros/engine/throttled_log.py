"""Log that throttles repeated warnings, and counts them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PERIOD_S = 10.0
MAX_KINDS = 1000


class ThrottledLog:
    """Logs each kind of problem at most once in `period_s`, and keeps the newest sentence. Thread safe.

    Remembers the last MAX_KINDS kinds; an older kind is logged again at once.
    """

    def __init__(self, sink: Callable[[str], None], period_s: float = PERIOD_S) -> None:
        self._sink = sink
        self._period_s = period_s
        self._lock = threading.Lock()
        self._logged: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}
        self._newest = ""

    @property
    def newest(self) -> str:
        with self._lock:
            return self._newest

    def report(self, kind: str, sentence: str) -> None:
        """Log `sentence`, unless one of the same `kind` was logged within `period_s`."""
        now = time.monotonic()
        with self._lock:
            self._newest = sentence
            if now - self._logged.get(kind, -self._period_s) < self._period_s:
                self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
                return
            self._logged.pop(kind, None)  # moves the kind to the end
            self._logged[kind] = now
            repeats = self._suppressed.pop(kind, 0)
            while len(self._logged) > MAX_KINDS:
                oldest = next(iter(self._logged))
                del self._logged[oldest]
                self._suppressed.pop(oldest, None)
        self._sink(sentence + (f" ({repeats} similar since the last one)" if repeats else ""))
