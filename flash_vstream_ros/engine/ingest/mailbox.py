"""Frames on their way to the model: the newest one of each camera, sampled by message stamp, all counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from flash_vstream_ros.memory.spans import Interval

from .stamps import Stamp, StampWatch

# A camera that is meant to run at the sampling rate jitters; without slack every second frame would be missed.
LARGEST_SLACK = 0.1  # sampling periods
THUMBNAIL_SIDE = 160


@dataclass(frozen=True)
class Frame:
    """One camera image, not yet decoded.

    `stamp_ns` is message time in nanoseconds; `decode()` gives RGB uint8 [height, width, 3] or raises an
    exception whose attribute `reason` is a short name to count it by. `jumped`: its camera's time jumped back since
    the frame that was taken before it.
    """

    camera: str
    frame_id: str
    stamp_ns: int
    decode: Callable[[], np.ndarray]
    jumped: bool = False


@dataclass(frozen=True)
class FrameCounts:
    """What became of the frames of one or more cameras: received = encoded + static + gated + dropped + pending."""

    received: int
    encoded: int
    gated: int
    pending: int
    drops: tuple[tuple[str, int], ...]
    newest_ns: int
    resolution_changes: int = 0
    jumps_back: int = 0
    jumps_forward: int = 0
    static: int = 0  # of slots that showed no change and were not encoded

    @property
    def taken_in(self) -> int:
        """Frames that the memory stands for, as long as it forgets nothing."""
        return self.encoded + self.static

    @property
    def dropped(self) -> int:
        return sum(count for _, count in self.drops)

    @classmethod
    def total(cls, parts: list[FrameCounts]) -> FrameCounts:
        drops: Counter[str] = Counter()
        for part in parts:
            drops.update(dict(part.drops))
        return cls(
            received=sum(part.received for part in parts),
            encoded=sum(part.encoded for part in parts),
            gated=sum(part.gated for part in parts),
            pending=sum(part.pending for part in parts),
            drops=tuple(sorted(drops.items())),
            newest_ns=max((part.newest_ns for part in parts), default=0),
            resolution_changes=sum(part.resolution_changes for part in parts),
            jumps_back=sum(part.jumps_back for part in parts),
            jumps_forward=sum(part.jumps_forward for part in parts),
            static=sum(part.static for part in parts),
        )


class Noted(NamedTuple):
    """What a mailbox noticed of a frame."""

    stamp: Stamp
    dropped: str | None  # the reason
    jumped_ns: int  # how far the last jump or leap of this camera's time went


class Mailbox:
    """Holds the newest due frame of one camera. Image callbacks offer, the worker takes; any thread may count.

    `offer` only compares stamps and swaps one reference, so a camera is never held up by the model.
    """

    def __init__(self, sample_fps: float, watch: StampWatch | None = None) -> None:
        self._period_ns = round(1e9 / sample_fps)
        self._lock = threading.Lock()
        self._watch = watch or StampWatch()
        self._waiting: Frame | None = None
        self._jumped = False
        self._paused = False
        self._due_ns = 0
        self._received = 0
        self._encoded = 0
        self._static = 0
        self._gated = 0
        self._in_work = 0
        self._drops: Counter[str] = Counter()
        self._resolution_changes = 0

    def sample(self, sample_fps: float, leap_ns: int | None = None) -> None:
        """Take frames at another rate; the next one is due one new period after the last.

        `leap_ns`: from where on a step of time is a leap, when that changes with it.
        """
        with self._lock:
            before_ns, self._period_ns = self._period_ns, round(1e9 / sample_fps)
            if self._due_ns:
                self._due_ns += self._period_ns - before_ns
            if leap_ns is not None:
                self._watch.leap_ns = leap_ns

    def offer(self, frame: Frame) -> Noted:
        """Take `frame` when its stamp is due."""
        with self._lock:
            self._received += 1
            before_ns = self._watch.newest_ns
            stamp = self._watch.judge(frame.stamp_ns)
            dropped = self._unfit(frame, stamp)
            if dropped is None:
                self._keep_when_due(frame, frame.stamp_ns - before_ns)
            return Noted(stamp, dropped, self._watch.jumped_ns)

    def _unfit(self, frame: Frame, stamp: Stamp) -> str | None:
        """Drop a frame that cannot be taken whenever it comes: the reason."""
        if stamp is Stamp.ZERO:
            return self._drop("zero_stamp")
        if frame.stamp_ns != self._watch.newest_ns or stamp is Stamp.LATE:
            return self._drop("stamp_not_newer")
        if stamp in (Stamp.JUMP, Stamp.RETURN):
            self._due_ns = 0
            self._jumped |= stamp is Stamp.JUMP
        return self._drop("paused") if self._paused else None

    def _keep_when_due(self, frame: Frame, step_ns: int) -> None:
        slack_ns = max(0, min(step_ns // 2, int(LARGEST_SLACK * self._period_ns)))
        if frame.stamp_ns < self._due_ns - slack_ns:
            self._gated += 1
            return
        # Keep to the sampling grid, so that jitter does not add up; start a new grid after a gap.
        self._due_ns += self._period_ns
        if self._due_ns <= frame.stamp_ns:
            self._due_ns = frame.stamp_ns + self._period_ns
        self._let_go("superseded")
        self._waiting = frame
        self._watch.kept()

    def pause(self) -> None:
        """Drop every frame from now on, and the one that waits."""
        with self._lock:
            self._paused = True
            self._let_go("paused")

    def resume(self) -> None:
        with self._lock:
            self._paused = False

    def forget(self, interval: Interval) -> None:
        """Let go of the waiting frame when its stamp lies in `interval`."""
        with self._lock:
            if self._waiting is not None and interval.touches(self._waiting.stamp_ns, self._waiting.stamp_ns):
                self._let_go("forgotten")

    def reset(self) -> None:
        """Let go of the waiting frame, and of time: the next stamp may be any."""
        with self._lock:
            self._let_go("forgotten")
            self._watch.restart()
            self._due_ns, self._jumped = 0, False

    def reject(self, reason: str) -> None:
        """Count an image that was refused before it became a frame."""
        with self._lock:
            self._received += 1
            self._drop(reason)

    def take(self) -> Frame | None:
        """The waiting frame, now in work; the taker settles it with `encoded`, `rested` or `dropped`."""
        with self._lock:
            frame, self._waiting = self._waiting, None
            if frame is None:
                return None
            jumped, self._jumped = self._jumped, False
            self._in_work += 1
            return replace(frame, jumped=jumped)

    def encoded(self) -> None:
        with self._lock:
            self._in_work -= 1
            self._encoded += 1

    def rested(self) -> None:
        """A frame, and the one before it that was counted as encoded, showed no change."""
        with self._lock:
            self._in_work -= 1
            self._encoded -= 1
            self._static += 2

    def dropped(self, reason: str) -> None:
        with self._lock:
            self._in_work -= 1
            self._drop(reason)

    def withdrawn(self, reason: str, frames: int = 1) -> None:
        """Frames counted as encoded did not reach the memory after all."""
        with self._lock:
            self._encoded -= frames
            self._drops[reason] += frames

    def resized(self) -> None:
        """The camera's pictures have another size from now on."""
        with self._lock:
            self._resolution_changes += 1

    def counts(self) -> FrameCounts:
        with self._lock:
            return FrameCounts(
                received=self._received,
                encoded=self._encoded,
                gated=self._gated,
                pending=self._in_work + (self._waiting is not None),
                drops=tuple(sorted(self._drops.items())),
                newest_ns=self._watch.newest_ns,
                jumps_back=self._watch.jumps_back,
                jumps_forward=self._watch.jumps_forward,
                resolution_changes=self._resolution_changes,
                static=self._static,
            )

    def _let_go(self, reason: str) -> None:
        if self._waiting is not None:
            self._waiting = None
            self._drop(reason)

    def _drop(self, reason: str) -> str:
        self._drops[reason] += 1
        return reason


def thumbnail(rgb: np.ndarray) -> bytes:
    """JPEG of an RGB uint8 image [height, width, 3], its longest side at most 160 pixels."""
    scale = min(1.0, THUMBNAIL_SIDE / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    encoded, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return jpeg.tobytes() if encoded else b""
