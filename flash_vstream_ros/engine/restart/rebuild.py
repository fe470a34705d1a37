"""Rebuild: the memory is encoded again from archived key frames, while live frames go on.

A second memory gets the key frames, one per step. The slots that the first one gets from live frames meanwhile are
recorded, and follow in the second one, so that stamps stay in order. Then the first memory adopts the second.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from threading import Event

import torch

from flash_vstream_ros.engine.archive.key_frame import KeyFrame
from flash_vstream_ros.engine.archive.key_frame_queue import touches
from flash_vstream_ros.engine.archive.recall import Sampled, decoded
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.ingest.ingest import Ingest
from flash_vstream_ros.engine.key_frame_slots import slot_of
from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import Extension, Grid, Slot

POLL_S = 0.05  # between two checks for a shutdown while the archive is read
REPORT_S = 5.0  # between two log lines about the progress
LIVE_PER_STEP = 8  # recorded slots inserted in one step; more than one step of ingest adds
KIND = "rebuild"  # of log lines


@dataclass(frozen=True)
class MemoryStart:
    """How the memory began, and the progress of its rebuild, for any thread."""

    sentence: str = ""  # "" while the engine has not looked, and without archive.path
    key_frames: int = 0  # to be encoded, those done included
    done: int = 0
    left_out: int = 0  # of those done: damaged, or not newer than another one of their camera
    under_way: bool = False


@dataclass(eq=False)
class _LiveSlot:
    """A slot of live frames, and the static slots after it."""

    slot: Slot
    extension: Extension | None = None

    @property
    def extended(self) -> Slot:
        """The slot, lasting until the end of its extension."""
        return self.slot.extended(self.extension) if self.extension else self.slot


@dataclass(eq=False)
class _Work:
    """A rebuild under way."""

    memory: Memory  # the second one
    remaining: deque[KeyFrame]
    matching: int  # key frames in the archive
    reason: str  # why no memory was restored
    done: list[KeyFrame] = field(default_factory=list)
    left_out: int = 0
    live: deque[_LiveSlot] = field(default_factory=deque)
    grid: Grid | None = None  # of the second memory
    novelty_sum: float = 0.0
    began_s: float = field(default_factory=time.monotonic)
    reported_s: float = field(default_factory=time.monotonic)


class Rebuild:
    """Owned by the engine's worker. Does nothing until `begin` and after the end; `status` may be read anywhere."""

    def __init__(self, context: Context, ingest: Ingest, new_memory: Callable[[], Memory]) -> None:
        self.status = MemoryStart()
        self._context = context
        self._ingest = ingest
        self._new_memory = new_memory
        self._work: _Work | None = None

    def begin(self, reason: str, sampled: Future[Sampled] | None, stop: Event) -> str:
        """Wait for the sample of the archive, unless `stop` is set, and start. Returns a sentence for the log.

        `reason` says why no memory was restored.
        """
        frames, matching, problem = _read(sampled, stop)
        if not frames:
            sentence = f"the memory begins empty: {reason}" + (f"; {problem}" if problem else "")
            self.status = MemoryStart(sentence)
            return sentence
        self._work = _Work(self._new_memory(), deque(frames), matching, reason)
        sentence = f"the memory is rebuilt from {len(frames)} of {matching} archived key frames: {reason}"
        self.status = MemoryStart(sentence, len(frames), under_way=True)
        self._ingest.follow(self)
        for camera, mailbox in self._ingest.mailboxes.items():
            mailbox.reset(self.newest_ns(camera))
        return sentence

    @property
    def under_way(self) -> bool:
        return self._work is not None

    @property
    def notice(self) -> str:
        """A sentence for replies; "" if nothing is being rebuilt."""
        if self._work is None:
            return ""
        status = self.status
        return f"the memory is being rebuilt from the archive: {status.done} of {status.key_frames} key frames are done"

    @property
    def is_urgent(self) -> bool:
        """Returns True if many live slots are recorded: an answer under way must not delay the rebuild further."""
        return self._work is not None and len(self._work.live) >= self._work.memory.capacity

    def step(self) -> bool:
        """Encode one key frame, or insert some live slots. Returns False if nothing is being rebuilt.

        Raises torch.OutOfMemoryError.
        """
        work = self._work
        if work is None:
            return False
        self._adopt_live_grid(work)
        if work.remaining:
            self._insert(work, work.remaining.popleft())
            self._report_progress(work)
        elif work.live:
            for _ in range(min(LIVE_PER_STEP, len(work.live))):
                self._insert_live(work, work.live.popleft())
        else:
            self._finish(work)
        return True

    def insert(self, slot: Slot) -> None:
        """Record a slot that the first memory has just got."""
        if self._work is not None:
            self._work.live.append(_LiveSlot(slot))

    def extend(self, camera: str, extension: Extension) -> None:
        """Record that the newest slot of `camera` was extended."""
        if self._work is None:
            return
        for live in reversed(self._work.live):
            if live.slot.camera == camera:
                live.extension = live.extension.followed_by(extension) if live.extension else extension
                return
        self._extend(self._work, camera, extension)

    def newest_ns(self, camera: str = "") -> int:
        """Stamp of the newest key frame, of `camera` or of all cameras; 0 without one."""
        frames = (*self._work.done, *self._work.remaining) if self._work is not None else ()
        return max((frame.last_ns for frame in frames if camera in ("", frame.camera)), default=0)

    def forget(self, scope: Scope) -> None:
        """Drop everything in `scope`; features of recorded slots are overwritten."""
        work = self._work
        if work is None:
            return
        work.memory.forget(scope)
        work.done = [frame for frame in work.done if not touches(scope, frame)]
        work.remaining = deque(frame for frame in work.remaining if not touches(scope, frame))
        dropped = [live for live in work.live if scope.touches(live.extended)]
        work.live = deque(live for live in work.live if live not in dropped)
        with torch.inference_mode():  # allows changes of tensors that were made in it, and of others
            for live in dropped:
                live.slot.low.zero_()
                live.slot.detail.zero_()

    def end(self, why: str) -> None:
        """Stop; the first memory stays as it is. `why` completes a sentence."""
        if self._work is None:
            return
        progress = f"{self.status.done} of {self.status.key_frames} key frames"
        sentence = f"the memory began empty: {self._work.reason}; its rebuild ended after {progress}: {why}"
        self._close(sentence)
        self._context.log.report(KIND, sentence)

    def _adopt_live_grid(self, work: _Work) -> None:
        """Begin again if the first live frame has another patch grid than the key frames were encoded with."""
        grid = self._ingest.grid
        if grid is None or grid == work.grid:
            return
        work.grid = grid
        if work.done:
            work.remaining.extendleft(reversed(work.done))
            work.memory, work.done, work.novelty_sum = self._new_memory(), [], 0.0

    def _insert(self, work: _Work, frame: KeyFrame) -> None:
        """Encode a key frame and insert it. One that cannot be used is left out."""
        try:
            recalled = decoded(frame)
            if recalled is None:
                raise ValueError("its image is damaged")
            slot = slot_of(recalled, self._context.model, work.grid)
            work.grid = slot.grid
            work.novelty_sum += work.memory.insert(slot)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            work.left_out += 1
            self._context.log.report(KIND, f"a key frame of camera {frame.camera} is left out of the memory: {error}")
        else:
            work.done.append(frame)

    def _insert_live(self, work: _Work, live: _LiveSlot) -> None:
        camera = live.slot.camera
        try:
            work.novelty_sum += work.memory.insert(live.slot)
        except ValueError as error:
            self._context.log.report(KIND, f"a slot of camera {camera} is left out of the memory: {error}")
        else:
            if live.extension is not None:
                self._extend(work, camera, live.extension)

    def _extend(self, work: _Work, camera: str, extension: Extension) -> None:
        try:
            work.memory.extend(camera, extension)
        except ValueError as error:
            self._context.log.report(KIND, f"a static slot of camera {camera} is left out of the memory: {error}")

    def _finish(self, work: _Work) -> None:
        """Let the first memory adopt the second."""
        if not work.memory.entries:
            self.end("none of them can be used")
            return
        self._context.memory.adopt(work.memory)
        self._ingest.continue_with(work.grid, work.novelty_sum)
        used = f"{len(work.done)} of {work.matching} archived key frames"
        sentence = f"the memory was rebuilt from {used}: {work.reason}"
        self._close(sentence)
        self._context.info(f"{sentence} ({time.monotonic() - work.began_s:.1f} s)")

    def _close(self, sentence: str) -> None:
        self._work = None
        self._ingest.follow(None)
        self.status = replace(self.status, sentence=sentence, under_way=False)

    def _report_progress(self, work: _Work) -> None:
        done = len(work.done) + work.left_out
        self.status = replace(self.status, key_frames=done + len(work.remaining), done=done, left_out=work.left_out)
        now = time.monotonic()
        if now - work.reported_s >= REPORT_S:
            work.reported_s = now
            self._context.info(self.notice)


def _read(sampled: Future[Sampled] | None, stop: Event) -> Sampled:
    """The sample of the archive; if there is none, its problem says why, except where nothing is archived."""
    if sampled is None:
        return Sampled((), 0)
    while not wait([sampled], POLL_S).done:
        if stop.is_set():
            return Sampled((), 0, "the engine was stopped while the archive was read")
    try:
        found = sampled.result()
    except Exception as error:
        return Sampled((), 0, f"the archive cannot be read: {error}")
    return found if found.frames or found.problem else Sampled((), 0, "the archive has no key frame of its cameras")
