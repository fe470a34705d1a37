"""Prefetch: decodes frames on its own thread, so that the model does not wait for a decoder."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple, TypeVar

from flash_vstream_ros.memory.pose import NO_POSE, MaybePose
from flash_vstream_ros.memory.spans import ALWAYS, Interval

from .decoder import DecodedFrame, FrameDecoder
from .mailbox import Frame, Mailbox

DEPTH = 2  # frames of one camera that are decoded ahead: one slot

Result = TypeVar("Result")


class _Fetched(NamedTuple):
    frame: Frame
    decoded: Future[DecodedFrame]
    pose: Future[MaybePose]

    @property
    def done(self) -> bool:
        return self.decoded.done() and self.pose.done()


class ReadyFrame(NamedTuple):
    """A frame with its decoded image, or the error of decoding it, and its pose."""

    frame: Frame
    decoded: Future[DecodedFrame]
    pose: MaybePose


def _pose_of(frame: Frame) -> Future[MaybePose]:
    if frame.find_pose is not None:
        return frame.find_pose()
    unknown: Future[MaybePose] = Future()
    unknown.set_result(NO_POSE)
    return unknown


class Prefetch:
    """Takes frames out of the mailboxes and decodes them, each camera's in order.

    Any thread may call `fetch`; only the worker's thread calls the rest. Frames dropped here are counted at their
    mailbox; the caller of `pop` counts the others. `wake` is set when a frame is decoded and when its
    pose is found.
    """

    def __init__(self, mailboxes: Mapping[str, Mailbox], decoder: FrameDecoder, wake: threading.Event) -> None:
        self._mailboxes = mailboxes
        self._decoder = decoder
        self._wake = wake
        self._lock = threading.Lock()
        self._fetched: dict[str, deque[_Fetched]] = {camera: deque() for camera in mailboxes}
        self._jumped: set[str] = set()  # cameras whose frame with a time jump was dropped
        self._closed = False
        self._pool = ThreadPoolExecutor(1, "flash-vstream-frames")
        # The worker waits for its other work, and face detection takes too long to wait for.
        self._other = ThreadPoolExecutor(1, "flash-vstream-thumbnails") if decoder.covers_faces else self._pool

    def fetch(self, camera: str) -> None:
        """Decode the frame that waits in the camera's mailbox, if there is room for it."""
        started = []
        with self._lock:
            fetched = self._fetched[camera]
            while not self._closed and len(fetched) < DEPTH and (frame := self._mailboxes[camera].take()) is not None:
                decoded = self._pool.submit(self._decoder.decode, frame)
                started.append(_Fetched(frame, decoded, _pose_of(frame)))
                fetched.append(started[-1])
        for one in started:  # outside the lock: a finished future calls back at once
            one.decoded.add_done_callback(lambda _: self._wake.set())
            one.pose.add_done_callback(lambda _: self._wake.set())

    def pop(self, camera: str) -> ReadyFrame | None:
        """Take out the oldest frame of `camera` if it is decoded and its pose is found, and fetch the next one."""
        with self._lock:
            fetched = self._fetched[camera]
            found = fetched.popleft() if fetched and fetched[0].done else None
        self.fetch(camera)
        if found is None:
            return None
        frame = replace(found.frame, jumped=True) if camera in self._jumped else found.frame
        self._jumped.discard(camera)
        return ReadyFrame(frame, found.decoded, found.pose.result())

    def drop(self, camera: str, reason: str, interval: Interval = ALWAYS) -> None:
        """Drop the frames of `camera` with stamps in `interval`."""
        with self._lock:
            dropped = [one for one in self._fetched[camera] if interval.touches(one.frame.stamp_ns, one.frame.stamp_ns)]
            self._fetched[camera] = deque(one for one in self._fetched[camera] if one not in dropped)
        if any(one.frame.jumped for one in dropped):
            self._jumped.add(camera)
        for one in dropped:
            one.decoded.cancel()
            self._mailboxes[camera].count_dropped(reason)

    @property
    def full(self) -> bool:
        """Returns True if there is no room for the next frame of some camera."""
        with self._lock:
            return any(len(fetched) == DEPTH for fetched in self._fetched.values())

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """Run other work on the prefetch thread, or on one of its own while faces are covered."""
        return self._other.submit(work)

    def close(self) -> None:
        """Decode no more frames."""
        with self._lock:
            self._closed = True
        for pool in (self._pool, self._other):
            pool.shutdown(wait=False, cancel_futures=True)
