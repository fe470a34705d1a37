"""When the newest slot of each camera reached the memory, by a steady clock: how old the camera's newest frame is.

The memory has stamps only, which do not tell a camera that stopped from a bag that is paused or a clock that is set.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_AGE_SLOTS = 3  # an older frame does not show the present: one slot is being filled, and one may have been dropped


class Age(NamedTuple):
    """Age of a camera's newest frame, and the age from which on it is old. Steady time [s]."""

    seconds: float = 0.0
    limit: float = math.inf

    @property
    def is_old(self) -> bool:
        return self.seconds > self.limit


@dataclass
class _Arrivals:
    """The newest slot of one camera."""

    stamp_ns: int  # of its newest frame
    at: float
    intervals: deque[float] = field(default_factory=lambda: deque(maxlen=2))  # between the last slots [s]


class NewestFrames:
    """Owned by the engine's worker, which notes slots and extensions of slots as they are received."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._arrivals: dict[str, _Arrivals] = {}

    def note(self, camera: str, stamp_ns: int) -> None:
        """A slot whose newest frame has this stamp has just been received."""
        now, known = self._now(), self._arrivals.get(camera)
        if known is None:
            self._arrivals[camera] = _Arrivals(stamp_ns, now)
            return
        known.intervals.append(now - known.at)
        known.stamp_ns, known.at = stamp_ns, now

    def age(self, camera: str, stamp_ns: int, slot_s: float) -> Age:
        """The age of the newest frame in the memory, whose stamp is `stamp_ns`.

        It is infinite unless this is the frame received last: the memory was restored or loaded and nothing has been
        received since, or newer frames were forgotten. The limit is MAX_AGE_SLOTS times `slot_s`, or times the shorter
        of the camera's last two intervals, if its slots come more slowly.
        """
        known = self._arrivals.get(camera)
        if known is None or known.stamp_ns != stamp_ns:
            return Age(math.inf, MAX_AGE_SLOTS * slot_s)
        return Age(self._now() - known.at, MAX_AGE_SLOTS * max(slot_s, min(known.intervals, default=0.0)))
