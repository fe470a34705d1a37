"""Frames made ready beside the worker, on a thread of their own, so that the model does not wait for a decoder."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

from flash_vstream_ros.memory.spans import ALWAYS, Interval

from .mailbox import Frame, Mailbox

DEPTH = 2  # frames of one camera that are ready or in work: a slot

Ready = TypeVar("Ready")
Result = TypeVar("Result")


class _Taken(NamedTuple):
    frame: Frame
    work: Future


class Prefetch(Generic[Ready]):
    """Takes frames from the mailboxes and has `work` done on each, cameras in turn and each camera's in order.

    `fetch` may be called from any thread; the rest is the worker's. What was taken from a mailbox is settled there by
    whoever gets it from `next`, or here when it is let go. `wake` is called whenever a frame is ready.
    """

    def __init__(
        self, mailboxes: Mapping[str, Mailbox], work: Callable[[Frame], Ready], wake: Callable[[], object]
    ) -> None:
        self._mailboxes = mailboxes
        self._work = work
        self._wake = wake
        self._lock = threading.Lock()
        self._taken: dict[str, deque[_Taken]] = {camera: deque() for camera in mailboxes}
        self._jumped: set[str] = set()  # cameras whose time jumped at a frame that was let go
        self._closed = False
        self._pool = ThreadPoolExecutor(1, "flash-vstream-frames")

    def fetch(self, camera: str) -> None:
        """Begin with what waits in a mailbox, as far as there is room."""
        begun = []
        with self._lock:
            taken = self._taken[camera]
            while not self._closed and len(taken) < DEPTH and (frame := self._mailboxes[camera].take()) is not None:
                begun.append(_Taken(frame, self._pool.submit(self._work, frame)))
                taken.append(begun[-1])
        for one in begun:  # not under the lock: what is done already calls back at once
            one.work.add_done_callback(lambda _: self._wake())

    def next(self, camera: str) -> tuple[Frame, Future[Ready]] | None:
        """The oldest frame of `camera` if it is ready, with what became of it; begins with what waits."""
        with self._lock:
            taken = self._taken[camera]
            found = taken.popleft() if taken and taken[0].work.done() else None
        self.fetch(camera)
        if found is not None and camera in self._jumped:
            self._jumped.discard(camera)
            return replace(found.frame, jumped=True), found.work
        return found

    def let_go(self, camera: str, reason: str, interval: Interval = ALWAYS) -> None:
        """Drop the frames of `camera` with stamps in `interval`."""
        with self._lock:
            gone = [one for one in self._taken[camera] if interval.touches(one.frame.stamp_ns, one.frame.stamp_ns)]
            self._taken[camera] = deque(one for one in self._taken[camera] if one not in gone)
        if any(one.frame.jumped for one in gone):
            self._jumped.add(camera)
        for one in gone:
            one.work.cancel()
            self._mailboxes[camera].dropped(reason)

    @property
    def full(self) -> bool:
        """Whether a further frame of some camera would have to stay in its mailbox."""
        with self._lock:
            return any(len(taken) == DEPTH for taken in self._taken.values())

    def beside(self, work: Callable[[], Result]) -> Future[Result]:
        """Have something else done there."""
        return self._pool.submit(work)

    def close(self) -> None:
        """Begin with nothing more."""
        with self._lock:
            self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
