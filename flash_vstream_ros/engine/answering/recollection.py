"""Recollection: a temporary Flash Memory of archived key frames, for one question or search.

A search of the whole archive takes several looks, since attention finds less among more. Each look fills the memory
with a part of the key frames, and the last one with the best key frames of all others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from flash_vstream_ros.engine.archive.key_frame import KeyFrame
from flash_vstream_ros.engine.archive.recall import Recalled, decoded
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.key_frame_slots import slot_of
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import Slot
from flash_vstream_ros.models.interface import Grid

from .question import Evidence
from .request import Request

POLL_S = 0.02  # longest wait for the disk in one step; a decoded live frame ends it early
LOOK_SLOTS = 32  # key frames of one look of a search of the whole archive
END_NS = 2**63 - 1


class KeyFrames(Protocol):
    """Starts to read archived key frames in scope; None if there is no archive."""

    def recall(self, scope: Scope, known: int) -> Future[Recalled] | None:
        """For an interval of which the memory has `known` moments; None also if it has enough."""

    def recall_widely(self, scope: Scope) -> Future[Recalled] | None:
        """For a search of the whole archive."""


class Recollection:
    """A temporary memory for one request; each step encodes one key frame. Owned by the engine's worker."""

    def __init__(self, request: Request, context: Context, recalled: Future[Recalled], known: int = 0) -> None:
        self.request = request
        self.memory = FlashMemory(context.memory.config)
        self.problem = ""  # why the archive could not be read
        self._context = context
        self._recalled = recalled
        self._known = known  # moments of the interval in the live memory
        self._looks: deque[Sequence[KeyFrame]] = deque()  # after the present one
        self._remaining: deque[KeyFrame] | None = None  # of the present look
        self._slots: list[Slot] = []  # of the present look
        self._best: list[Slot] = []  # of the looks before
        self._best_per_look = 0  # 0: one look is enough, or the present one is the last
        self._total = self._encoded = 0  # key frames
        self._grid: Grid | None = None  # of all slots; the first one determines it
        self._matching = 0
        self._stamps: list[int] = []  # first and last ones of the key frames [ns]
        recalled.add_done_callback(lambda _: context.wake.set())

    def step(self) -> bool:
        """Encode one key frame, or wait for the disk. Returns False once the memory is complete."""
        if self._remaining is None:
            if not self._recalled.done():
                self._context.wake.wait(POLL_S)
                return True
            self._remaining = self._first_look(self._read())
            self._report()
        if not self._remaining:
            return False
        self._insert(self._remaining.popleft())
        self._encoded += 1
        self._report()
        return True

    def next_look(self, found: Sequence[Evidence]) -> bool:
        """After a search has `found` moments in the memory, best first: fill it for the next look.

        Returns False if the look was the last one.
        """
        if not self._best_per_look:
            return False
        best = {(one.entry.camera, one.entry.thumbnail_ns) for one in found[: self._best_per_look]}
        self._best += [slot for slot in self._slots if (slot.camera, slot.thumbnail_ns) in best]
        self.memory, self._slots = FlashMemory(self._context.memory.config), []
        if self._looks:
            self._remaining = deque(self._looks.popleft())
        else:
            self._best_per_look = 0
            for slot in sorted(self._best, key=lambda slot: slot.last_ns):
                self._remember(slot)
        return True

    def may_use(self, scope: Scope) -> bool:
        """Returns True if the answer may use anything in `scope`."""
        own = self.request.question.scope
        is_camera_shared = not own.cameras or any(map(scope.has_camera, own.cameras))
        return is_camera_shared and scope.interval.touches(own.since_ns, own.until_ns or END_NS)

    @property
    def covered_ns(self) -> tuple[int, int]:
        """Stamps of the oldest and of the newest frame of the key frames."""
        return min(self._stamps, default=0), max(self._stamps, default=0)

    @property
    def adjustment(self) -> str:
        """The sentence in the reply's `adjustments`."""
        if self.request.question.archived:
            return f"searched in {self._encoded} of {self._matching} archived key frames"
        how = "searched in" if self.request.question.is_search else "answered from"
        return (
            f"{how} {self.memory.slots_seen} of {self._matching} archived key frames of the interval, since the memory "
            f"has only {self._known} moments of it"
        )

    def _read(self) -> tuple[KeyFrame, ...]:
        try:
            frames, self._matching = self._recalled.result()
        except Exception as error:
            self.problem = str(error)
            self._context.log.report(
                "archive", f"a {self.request.question.noun} is answered without the archive: {error}"
            )
            return ()
        return frames

    def _first_look(self, frames: Sequence[KeyFrame]) -> deque[KeyFrame]:
        """The key frames of the first look. Each look has key frames of all times, so that they compete."""
        self._total = len(frames)
        self._stamps = [stamp for frame in frames for stamp in (frame.first_ns, frame.last_ns)]
        looks = -(-len(frames) // LOOK_SLOTS) if self.request.question.archived else 1
        if looks > 1:
            self._best_per_look = max(LOOK_SLOTS // looks, 1)
        self._looks = deque(frames[first::looks] for first in range(looks))
        return deque(self._looks.popleft() if self._looks else ())

    def _report(self) -> None:
        """Report the progress to the client."""
        if self._total:
            self.request.report_key_frames(self._encoded, self._total)

    def _insert(self, frame: KeyFrame) -> None:
        recalled = decoded(frame)
        if recalled is None:
            return
        slot = slot_of(recalled, self._context.model, self._grid)
        self._grid = slot.grid
        self._remember(slot)

    def _remember(self, slot: Slot) -> None:
        try:
            self.memory.insert(slot)
        except ValueError as error:  # two key frames with the same stamp, after a clock was set back
            self._context.log.report(
                "archive", f"camera {slot.camera}: a key frame is not used for the answer: {error}"
            )
        else:
            self._slots.append(slot)
