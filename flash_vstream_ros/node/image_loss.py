"""Loss of images between a camera's process and this one: counted by the middleware, or estimated from stamps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

WINDOW_S = 5.0
FEWEST_LOST = 3  # fewer lost images in a window are not reported
SHARE_LOST = 0.1  # a larger share of a window's images is reported if the middleware counts the loss
SHARE_MISSING = 0.5  # the same for an estimate from stamps; a camera may halve its rate on purpose
LATE_S = 0.25  # if callbacks are later than this, the process itself may lose the images
FEWEST_INTERVALS = 8
MAX_PERIODS = 4  # largest number of periods in the shortest interval
PERIODIC = 0.8  # share of the intervals that are multiples of a period
JITTER = 0.15  # of the period


class Counts(NamedTuple):
    """Images that the middleware received and lost up to the moment `at_s`."""

    at_s: float
    received: int
    lost: int


class Lateness:
    """Longest delay of a periodic callback over the last seconds. Not thread safe."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._called_s = 0.0
        self._delays_s: deque[tuple[float, float]] = deque()  # moment, delay

    def record(self, now_s: float) -> float:
        """Record a call of the callback. Returns the longest delay of the last seconds, including this call [s]."""
        delay_s = now_s - self._called_s - self._period_s if self._called_s else 0.0
        self._called_s = now_s
        self._delays_s.append((now_s, max(0.0, delay_s)))
        while self._delays_s[0][0] < now_s - WINDOW_S:
            self._delays_s.popleft()
        return max(delay for _, delay in self._delays_s)


class ImageLoss:
    """Counts of one camera over the last seconds. Not thread safe: all calls come from one callback group.

    `counted` is True if the middleware itself reports losses, including those of best-effort images.
    """

    def __init__(self, rmw: str, topic: str, counted: bool) -> None:
        self._rmw = rmw
        self._topic = topic
        self._counted = counted
        self._received = 0
        self._lost = 0
        self._window: deque[Counts] = deque()
        self._stamps_s: deque[tuple[float, float]] = deque()  # arrival, stamp

    def add_received(self, now_s: float, stamp_s: float) -> None:
        """Count an image that arrived."""
        self._received += 1
        self._stamps_s.append((now_s, stamp_s))
        while self._stamps_s[0][0] < now_s - WINDOW_S:
            self._stamps_s.popleft()

    def add_lost(self, count: int) -> None:
        """Add `count` lost images that the middleware reported."""
        self._lost += count

    def finding(self, now_s: float, publishers: Sequence[str], remedy: str, late_s: float = 0.0) -> str:
        """A sentence if images of `publishers`, all with compatible QoS, are being lost at `now_s` [s]; else "".

        `late_s` is the longest delay of this process's callbacks: a receiver that is too slow loses images as well.
        """
        if late_s > LATE_S:
            remedy = (
                f"callbacks of this process are up to {late_s:.1f} s late, so this process may lose the images: give it"
                f" more processor time or lower the camera's rate; if images are lost without such delays, {remedy}"
            )
        if not publishers:
            self._window.clear()
            return ""
        self._window.append(Counts(now_s, self._received, self._lost))
        while len(self._window) > 2 and self._window[1].at_s <= now_s - WINDOW_S:
            self._window.popleft()
        first = self._window[0]
        elapsed_s, received, lost = now_s - first.at_s, self._received - first.received, self._lost - first.lost
        who, when = ", ".join(publishers), f"on {self._topic} in the last {max(elapsed_s, 1.0):.0f} s"
        sent = f"{who} sent {when}"
        if lost >= FEWEST_LOST and lost > SHARE_LOST * (received + lost):
            return f"{self._rmw} lost {lost} of the {received + lost} images that {sent}: {remedy}"
        if self._counted:
            return ""
        missing = missing_images([stamp_s for at_s, stamp_s in self._stamps_s if at_s > now_s - WINDOW_S])
        if missing >= FEWEST_LOST and missing > SHARE_MISSING * (received + missing):
            return f"about {missing} of the {received + missing} images that {sent} did not arrive: {remedy}"
        if not received and elapsed_s >= WINDOW_S:
            return f"no image of {who} arrived {when}; if images are sent: {remedy}"
        return ""


def missing_images(stamps_s: Sequence[float]) -> int:
    """Number of images missing between the first and the last stamp of a periodic camera; 0 for other cameras.

    If a periodic camera loses images, the intervals are multiples of its period. A camera that sends bursts, or one
    image per event, has other intervals, and nothing is estimated for it.
    """
    intervals = sorted(after - before for before, after in pairwise(sorted(stamps_s)) if after > before)
    if len(intervals) < FEWEST_INTERVALS:
        return 0
    for divisor in range(1, MAX_PERIODS + 1):  # after many losses even the shortest interval spans several periods
        steps, multiples = _steps(intervals, intervals[0] / divisor)
        if multiples >= PERIODIC * len(intervals):
            return 0 if _in_bursts(intervals, steps) else steps - len(intervals)
    return 0


def _in_bursts(intervals: Sequence[float], steps: int) -> bool:
    """Returns True if the camera sends in bursts: there are more shortest intervals than random loss explains.

    If n of `steps` images are received at random, about n * n / steps directly follow another. Up to three times as
    many still count as random loss.
    """
    shortest = sum(interval <= (1 + JITTER) * intervals[0] for interval in intervals)
    return shortest > 2 + 3 * len(intervals) * len(intervals) / steps


def _steps(intervals: Sequence[float], period_s: float) -> tuple[int, int]:
    """Periods in all `intervals`, which are sorted, and the number of intervals that are multiples of the period."""
    steps = multiples = fitted_steps = 0
    fitted_s = 0.0
    for interval in intervals:
        step = max(1, round(interval / period_s))
        steps += step
        if abs(interval - step * period_s) <= JITTER * period_s:
            multiples += 1
            # Many intervals determine the period better than the shortest one, which has the largest relative jitter.
            fitted_s, fitted_steps = fitted_s + interval, fitted_steps + step
            period_s = fitted_s / fitted_steps
    return steps, multiples
