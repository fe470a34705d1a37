"""Bounded queue from the engine's worker to the archive's thread; the worker never waits."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import NamedTuple

from flash_vstream_ros.memory.region import Region
from flash_vstream_ros.memory.scope import Scope

from .key_frame import KeyFrame, SlotFrame

MAX_FRAMES = 64
MAX_BYTES = 64 << 20  # of images; one frame may be larger

Extensions = dict[tuple[str, int], int]  # by camera and stamp of a key frame: until when it was seen [ns]


class Erasure(NamedTuple):
    """A request to delete what lies in `scope`. `done` returns the number of key frames deleted from the disk."""

    scope: Scope
    done: Future[int]


class Taken(NamedTuple):
    """Work for the archive's thread. Erasures come first: the frames are newer or lie outside of them."""

    erasures: list[Erasure]
    frames: list[SlotFrame]
    extensions: Extensions
    closed: bool


class _Newest(NamedTuple):
    """A camera's newest frame: its key, and the interval in which it was seen [ns]."""

    key: tuple[str, int]
    first_ns: int
    until_ns: int


class KeyFrameQueue:
    """Thread safe. The archive's thread calls `take`, the worker's thread the other methods."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frames: deque[SlotFrame] = deque()
        self._erasures: list[Erasure] = []
        self._extensions: Extensions = {}
        self._newest: dict[str, _Newest] = {}
        self._bytes = 0
        self._closed = False

    def push(self, frame: SlotFrame) -> bool:
        """Returns False if there is no room for the frame."""
        with self._changed:
            is_full = len(self._frames) >= MAX_FRAMES or (self._frames and self._bytes + frame.rgb.nbytes > MAX_BYTES)
            if is_full or self._closed:
                self._newest.pop(frame.camera, None)
                return False
            self._frames.append(frame)
            self._bytes += frame.rgb.nbytes
            self._newest[frame.camera] = _Newest(frame.key, frame.first_ns, frame.last_ns)
            self._changed.notify()
            return True

    def extend(self, camera: str, last_ns: int) -> None:
        """Note that the camera's scene has not changed since its newest frame."""
        with self._changed:
            if (newest := self._newest.get(camera)) is not None:
                self._newest[camera] = newest._replace(until_ns=last_ns)
                self._extensions[newest.key] = last_ns
                self._changed.notify()

    def erase(self, erasure: Erasure) -> None:
        """Drop queued frames in scope, and have the archive's thread delete those on the disk."""
        scope = erasure.scope
        with self._changed:
            self._newest = {
                camera: newest
                for camera, newest in self._newest.items()
                if not (scope.has_camera(camera) and scope.interval.touches(newest.first_ns, newest.until_ns))
            }
            self._frames = deque(
                frame for frame in self._frames if not touches(scope, frame, self._extensions.get(frame.key, 0))
            )
            self._bytes = sum(frame.rgb.nbytes for frame in self._frames)
            self._erasures.append(erasure)
            self._changed.notify()

    def close(self) -> None:
        """Take no more frames."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, timeout_s: float | None) -> Taken:
        """Wait for work, at most `timeout_s`, and return it."""
        with self._changed:
            if not (self._frames or self._erasures or self._extensions or self._closed):
                self._changed.wait(timeout_s)
            taken = Taken(self._erasures, list(self._frames), self._extensions, self._closed)
            self._erasures, self._extensions, self._bytes = [], {}, 0
            self._frames.clear()
            return taken


def touches(scope: Scope, frame: SlotFrame | KeyFrame, until_ns: int = 0) -> bool:
    """Returns True if the frame was seen at any moment in scope. It was seen until `until_ns`, if that is later."""
    in_time = scope.has_camera(frame.camera) and scope.interval.touches(frame.first_ns, max(frame.last_ns, until_ns))
    return in_time and scope.touches_place(Region.of(frame.pose))
