"""Frames on their way to the model: the newest one of each camera, sampled by message stamp, all counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

# A camera that is meant to run at the sampling rate jitters; without slack every second frame would be missed.
LARGEST_SLACK = 0.1  # sampling periods
THUMBNAIL_SIDE = 160


@dataclass(frozen=True)
class Frame:
    """One camera image, not yet decoded.

    `stamp_ns` is message time in nanoseconds; `decode()` gives RGB uint8 [height, width, 3] or raises an
    exception whose attribute `reason` is a short name to count it by.
    """

    camera: str
    frame_id: str
    stamp_ns: int
    decode: Callable[[], np.ndarray]


@dataclass(frozen=True)
class FrameCounts:
    """What became of the frames of one or more cameras: received = encoded + gated + dropped + pending."""

    received: int
    encoded: int
    gated: int
    pending: int
    drops: tuple[tuple[str, int], ...]
    newest_ns: int

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
        )


class Mailbox:
    """Holds the newest due frame of one camera. Image callbacks offer, the worker takes; any thread may count.

    `offer` only compares stamps and swaps one reference, so a camera is never held up by the model.
    """

    def __init__(self, sample_fps: float) -> None:
        self._period_ns = round(1e9 / sample_fps)
        self._lock = threading.Lock()
        self._waiting: Frame | None = None
        self._due_ns = 0
        self._newest_ns = 0
        self._received = 0
        self._encoded = 0
        self._gated = 0
        self._in_work = 0
        self._drops: Counter[str] = Counter()

    def sample(self, sample_fps: float) -> None:
        """Take frames at another rate; the next one is due one new period after the last."""
        with self._lock:
            before_ns, self._period_ns = self._period_ns, round(1e9 / sample_fps)
            if self._due_ns:
                self._due_ns += self._period_ns - before_ns

    def offer(self, frame: Frame) -> str | None:
        """Take `frame` when its stamp is due. Returns why it was dropped, or None."""
        with self._lock:
            self._received += 1
            if frame.stamp_ns <= 0:
                return self._drop("zero_stamp")
            if frame.stamp_ns <= self._newest_ns:
                return self._drop("stamp_not_newer")
            slack_ns = min((frame.stamp_ns - self._newest_ns) // 2, int(LARGEST_SLACK * self._period_ns))
            self._newest_ns = frame.stamp_ns
            if frame.stamp_ns < self._due_ns - slack_ns:
                self._gated += 1
                return None
            # Keep to the sampling grid, so that jitter does not add up; start a new grid after a gap.
            self._due_ns += self._period_ns
            if self._due_ns <= frame.stamp_ns:
                self._due_ns = frame.stamp_ns + self._period_ns
            if self._waiting is not None:
                self._drop("superseded")
            self._waiting = frame
            return None

    def reject(self, reason: str) -> None:
        """Count an image that was refused before it became a frame."""
        with self._lock:
            self._received += 1
            self._drop(reason)

    def take(self) -> Frame | None:
        """The waiting frame, now in work; the taker settles it with `encoded` or `dropped`."""
        with self._lock:
            frame, self._waiting = self._waiting, None
            self._in_work += frame is not None
            return frame

    def encoded(self) -> None:
        with self._lock:
            self._in_work -= 1
            self._encoded += 1

    def dropped(self, reason: str) -> None:
        with self._lock:
            self._in_work -= 1
            self._drop(reason)

    def withdrawn(self, reason: str, frames: int = 1) -> None:
        """Frames counted as encoded did not reach the memory after all."""
        with self._lock:
            self._encoded -= frames
            self._drops[reason] += frames

    def counts(self) -> FrameCounts:
        with self._lock:
            return FrameCounts(
                received=self._received,
                encoded=self._encoded,
                gated=self._gated,
                pending=self._in_work + (self._waiting is not None),
                drops=tuple(sorted(self._drops.items())),
                newest_ns=self._newest_ns,
            )

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
