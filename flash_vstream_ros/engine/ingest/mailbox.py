"""Mailbox: samples one camera by message stamp, keeps its newest sampled frame and counts every frame."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.pose import MaybePose
from flash_vstream_ros.memory.spans import Interval

from .stamps import JumpBack, Stamp, StampWatch, stamp_problem

# A camera that publishes at the sampling rate jitters; without slack it would lose every second frame.
MAX_SLACK = 0.1  # in sampling periods


@dataclass(frozen=True)
class Frame:
    """One camera image, not yet decoded.

    `stamp_ns` is message time in nanoseconds. `decode()` returns RGB uint8 [height, width, 3] or raises an exception
    whose attribute `reason` is a short name to count it by. `jumped` is True if the camera's stamps jumped back before
    this frame. `find_pose()`, called once the frame is due, looks its pose up within a bounded time; None: there is no
    source of poses.
    """

    camera: str
    frame_id: str
    stamp_ns: int
    decode: Callable[[], np.ndarray]
    jumped: bool = False
    find_pose: Callable[[], Future[MaybePose]] | None = None


@dataclass(frozen=True)
class FrameCounts:
    """Frames of one or more cameras: received = encoded + static + not sampled + dropped + pending."""

    received: int
    encoded: int
    not_sampled: int  # between two sampling times
    pending: int
    drops: tuple[tuple[str, int], ...]
    newest_ns: int
    resolution_changes: int = 0
    jumps_back: int = 0
    jumps_forward: int = 0
    static: int = 0  # in static slots, which are not encoded
    covered: int = 0  # decoded ones in which faces were covered

    @property
    def ingested(self) -> int:
        """Frames in the memory, as long as it forgets nothing."""
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
            not_sampled=sum(part.not_sampled for part in parts),
            pending=sum(part.pending for part in parts),
            drops=tuple(sorted(drops.items())),
            newest_ns=max((part.newest_ns for part in parts), default=0),
            resolution_changes=sum(part.resolution_changes for part in parts),
            jumps_back=sum(part.jumps_back for part in parts),
            jumps_forward=sum(part.jumps_forward for part in parts),
            static=sum(part.static for part in parts),
            covered=sum(part.covered for part in parts),
        )


class OfferResult(NamedTuple):
    """Result of offering a frame to a mailbox."""

    stamp: Stamp
    dropped: str | None  # the reason
    jumped_ns: int  # size of the last time jump of this camera
    is_due: bool  # True: the frame waits in the mailbox


def log_stamp_problem(result: OfferResult, camera: str, on_jump_back: JumpBack, log: ThrottledLog) -> None:
    """Log what is wrong with the stamp of an offered frame, if anything is."""
    if problem := stamp_problem(result.stamp, result.jumped_ns, on_jump_back):
        log.report(f"{camera}/{result.stamp.name}", f"camera {camera}: {problem}")


class Mailbox:
    """Keeps the newest due frame of one camera. Image callbacks offer frames, the prefetch takes them. Thread safe.

    `offer` only compares stamps and swaps one reference, so the model never delays a camera.
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
        self._not_sampled = 0
        self._in_work = 0
        self._drops: Counter[str] = Counter()
        self._resolution_changes = 0
        self._covered = 0

    def set_rate(self, sample_fps: float, jump_forward_ns: int | None = None) -> None:
        """Change the sampling rate; the next frame is due one new period after the last.

        `jump_forward_ns`: a longer step of the stamps is a jump forward from now on.
        """
        with self._lock:
            before_ns, self._period_ns = self._period_ns, round(1e9 / sample_fps)
            if self._due_ns:
                self._due_ns += self._period_ns - before_ns
            if jump_forward_ns is not None:
                self._watch.jump_forward_ns = jump_forward_ns

    def offer(self, frame: Frame) -> OfferResult:
        """Keep `frame` if it is due, in place of an older one."""
        with self._lock:
            self._received += 1
            before_ns = self._watch.newest_ns
            stamp = self._watch.classify(frame.stamp_ns)
            dropped = self._drop_by_stamp(frame, stamp)
            is_due = dropped is None and self._keep_if_due(frame, frame.stamp_ns - before_ns)
            return OfferResult(stamp, dropped, self._watch.jumped_ns, is_due)

    def _drop_by_stamp(self, frame: Frame, stamp: Stamp) -> str | None:
        """Drop a frame with an unusable stamp, or any frame while paused. Returns the reason; None for a good frame.

        After a jump back the next frame is due at once.
        """
        if stamp is Stamp.ZERO:
            return self._drop("zero_stamp")
        if frame.stamp_ns != self._watch.newest_ns or stamp is Stamp.LATE:
            return self._drop("stamp_not_newer")
        if stamp in (Stamp.JUMP_BACK, Stamp.RETURN):
            self._due_ns = 0
            self._jumped |= stamp is Stamp.JUMP_BACK
        return self._drop("paused") if self._paused else None

    def _keep_if_due(self, frame: Frame, step_ns: int) -> bool:
        slack_ns = max(0, min(step_ns // 2, int(MAX_SLACK * self._period_ns)))
        if frame.stamp_ns < self._due_ns - slack_ns:
            self._not_sampled += 1
            return False
        # Stay on the sampling grid, so that jitter does not add up; start a new grid after a gap.
        self._due_ns += self._period_ns
        if self._due_ns <= frame.stamp_ns:
            self._due_ns = frame.stamp_ns + self._period_ns
        self._drop_waiting("superseded")
        self._waiting = frame
        self._watch.count_kept()
        return True

    def pause(self) -> None:
        """Drop the waiting frame, and every frame that arrives from now on."""
        with self._lock:
            self._paused = True
            self._drop_waiting("paused")

    def resume(self) -> None:
        with self._lock:
            self._paused = False

    def forget(self, interval: Interval) -> None:
        """Drop the waiting frame if its stamp is in `interval`."""
        with self._lock:
            if self._waiting is not None and interval.touches(self._waiting.stamp_ns, self._waiting.stamp_ns):
                self._drop_waiting("forgotten")

    def reset(self, newest_ns: int = 0) -> None:
        """Drop the waiting frame and accept stamps after `newest_ns`; 0: the next frame may have any stamp."""
        with self._lock:
            self._drop_waiting("forgotten")
            self._watch.restart(newest_ns)
            self._due_ns, self._jumped = 0, False

    def reject(self, reason: str) -> None:
        """Count an image that was rejected before it became a frame."""
        with self._lock:
            self._received += 1
            self._drop(reason)

    def take(self) -> Frame | None:
        """Take out the waiting frame. It is in progress until `count_encoded`, `count_static` or `count_dropped`."""
        with self._lock:
            frame, self._waiting = self._waiting, None
            if frame is None:
                return None
            jumped, self._jumped = self._jumped, False
            self._in_work += 1
            return replace(frame, jumped=jumped)

    def count_encoded(self, in_progress: int = 1) -> None:
        """Count frames in progress as encoded. The first frame of a slot counts while it waits for the second."""
        with self._lock:
            self._in_work -= in_progress
            self._encoded += in_progress

    def count_static(self, in_progress: int, encoded: int) -> None:
        """Count the frames of a static slot: `in_progress` ones, and those counted as `encoded` before."""
        with self._lock:
            self._in_work -= in_progress
            self._encoded -= encoded
            self._static += in_progress + encoded

    def count_dropped(self, reason: str, in_progress: int = 1, encoded: int = 0) -> None:
        """Count frames as dropped: `in_progress` ones, and those counted as `encoded` before."""
        with self._lock:
            self._in_work -= in_progress
            self._encoded -= encoded
            self._drops[reason] += in_progress + encoded

    def count_resized(self) -> None:
        """Count a change of the image size."""
        with self._lock:
            self._resolution_changes += 1

    def count_covered(self) -> None:
        """Count a frame in which faces were covered."""
        with self._lock:
            self._covered += 1

    def counts(self) -> FrameCounts:
        with self._lock:
            return FrameCounts(
                received=self._received,
                encoded=self._encoded,
                not_sampled=self._not_sampled,
                pending=self._in_work + (self._waiting is not None),
                drops=tuple(sorted(self._drops.items())),
                newest_ns=self._watch.newest_ns,
                jumps_back=self._watch.jumps_back,
                jumps_forward=self._watch.jumps_forward,
                resolution_changes=self._resolution_changes,
                static=self._static,
                covered=self._covered,
            )

    def _drop_waiting(self, reason: str) -> None:
        if self._waiting is not None:
            self._waiting = None
            self._drop(reason)

    def _drop(self, reason: str) -> str:
        self._drops[reason] += 1
        return reason
