"""Recollection: a temporary Flash Memory of archived key frames, for one question or search."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import Protocol

from flash_vstream_ros.engine.archive.recall import Recalled, RecalledFrame
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.key_frame_slots import slot_of
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.interface import Grid

from .request import Request

POLL_S = 0.02  # longest wait for the disk in one step; a decoded live frame ends it early
END_NS = 2**63 - 1


class Recall(Protocol):
    """Starts to read the archived key frames in scope; the memory has `known` moments of it.

    Returns None if there is no archive, or if the memory has enough moments.
    """

    def __call__(self, scope: Scope, known: int) -> Future[Recalled] | None: ...


class Recollection:
    """A temporary memory for one request; each step encodes one key frame. Owned by the engine's worker."""

    def __init__(self, request: Request, context: Context, recalled: Future[Recalled], known: int) -> None:
        self.request = request
        self.memory = FlashMemory(context.memory.config)
        self._context = context
        self._recalled = recalled
        self._known = known  # moments of the interval in the live memory
        self._remaining: deque[RecalledFrame] | None = None
        self._total = 0  # key frames to encode
        self._grid: Grid | None = None  # of all slots; the first one determines it
        self._matching = 0
        recalled.add_done_callback(lambda _: context.wake.set())

    def step(self) -> bool:
        """Encode one key frame, or wait for the disk. Returns False once the memory is complete."""
        if self._remaining is None:
            if not self._recalled.done():
                self._context.wake.wait(POLL_S)
                return True
            self._remaining = deque(self._read())
            self._total = len(self._remaining)
            self._report()
        if not self._remaining:
            return False
        self._insert(self._remaining.popleft())
        self._report()
        return True

    def _report(self) -> None:
        """Report the progress to the client."""
        if self._remaining is not None and self._total:
            self.request.report_key_frames(self._total - len(self._remaining), self._total)

    def may_use(self, scope: Scope) -> bool:
        """Returns True if the answer may use anything in `scope`."""
        own = self.request.question.scope
        is_camera_shared = not own.cameras or any(map(scope.has_camera, own.cameras))
        return is_camera_shared and scope.interval.touches(own.since_ns, own.until_ns or END_NS)

    @property
    def adjustment(self) -> str:
        """The sentence in the reply's `adjustments`."""
        how = "searched in" if self.request.question.is_search else "answered from"
        return (
            f"{how} {self.memory.slots_seen} of {self._matching} archived key frames of the interval, since the memory "
            f"has only {self._known} moments of it"
        )

    def _read(self) -> tuple[RecalledFrame, ...]:
        try:
            frames, self._matching = self._recalled.result()
        except Exception as error:
            self._context.log.report(
                "archive", f"a {self.request.question.noun} is answered without the archive: {error}"
            )
            return ()
        return frames

    def _insert(self, recalled: RecalledFrame) -> None:
        slot = slot_of(recalled, self._context.model, self._grid)
        self._grid = slot.grid
        try:
            self.memory.insert(slot)
        except ValueError as error:  # two key frames with the same stamp, after a clock was set back
            self._context.log.report(
                "archive", f"camera {slot.camera}: a key frame is not used for the answer: {error}"
            )
