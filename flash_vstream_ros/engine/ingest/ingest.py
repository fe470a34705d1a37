"""The way in: a camera's frames, paired into slots, encoded where they show a change, inserted into the memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flash_vstream_ros.engine.durations import Durations
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import Extension, Slot
from flash_vstream_ros.memory.spans import ALWAYS, Interval
from flash_vstream_ros.models.interface import Grid, VisionLanguageModel

from .mailbox import Frame, Mailbox, thumbnail
from .prefetch import Prefetch
from .stamps import JumpBack
from .static_scene import Blocks, StaticLimits, StaticSceneFilter, block_means

OPEN = StaticLimits(threshold=0.0)


def longest_pair_ns(slot_period_ns: int) -> int:
    """Two frames further apart than this do not show one moment and are not paired [ns]."""
    return 2 * slot_period_ns


class _Decoded(NamedTuple):
    frame: Frame
    rgb: np.ndarray  # [height, width, 3] uint8
    blocks: Blocks  # what the gate sees of it
    pixels: Tensor | None  # what the tower is given of it, on `grid`; None: not made yet
    grid: Grid | None


class _Pair(NamedTuple):
    """A slot on its way."""

    first: _Decoded
    second: _Decoded

    @property
    def camera(self) -> str:
        return self.second.frame.camera


class _UnusableSize(ValueError):
    reason = "unusable_size"


class Ingest:
    """Takes frames from the mailboxes, cameras in turn. Owned by the engine's worker; frames are decoded beside it.

    Whatever is wrong with a frame is counted at its mailbox and said; the memory only ever sees whole slots.
    `slot_period_ns`, the stamp length of a slot, may change between two steps. `make_room` is called when the device
    runs out of memory, `wake` when there is something to do.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        memory: Memory,
        mailboxes: Mapping[str, Mailbox],
        log: ThrottledLog,
        slot_period_ns: int,
        on_jump_back: JumpBack = JumpBack.IGNORE,
        make_room: Callable[[], object] = lambda: None,
        wake: Callable[[], object] = lambda: None,
        static: StaticLimits = OPEN,
    ) -> None:
        self.encode_s = Durations()
        self.update_s = Durations()
        self.novelty_sum = 0.0
        self.gate = StaticSceneFilter(static)
        self.ahead = Prefetch(mailboxes, self._decode, wake)
        self._model = model
        self._memory = memory
        self._mailboxes = mailboxes
        self._log = log
        self.slot_period_ns = slot_period_ns
        self._on_jump_back = on_jump_back
        self._make_room = make_room
        self._turns = list(mailboxes)
        self._half: dict[str, _Decoded] = {}
        self._size: dict[str, tuple[int, int]] = {}
        self._grid: Grid | None = None
        self._shift_ns: dict[str, int] = {}  # what brings a camera's stamps behind what it showed before they jumped

    def reset(self) -> None:
        """Forget what waits to be taken in, the grid and the shifts; novelty is summed up anew."""
        for camera in self._mailboxes:
            self.forget(camera, ALWAYS)
        self._size.clear()
        self._shift_ns.clear()
        self._grid = None
        self.novelty_sum = 0.0

    def forget(self, camera: str, interval: Interval) -> None:
        """Let go of the frames that wait to be taken in, and of what the gate compares with, seen in `interval`."""
        half = self._half.get(camera)
        if half is not None and interval.touches(half.frame.stamp_ns, half.frame.stamp_ns):
            self._part(camera, "forgotten")
        self.ahead.let_go(camera, "forgotten", interval)
        self.gate.forget(camera, interval)

    def step(self, most: int = 1) -> bool:
        """Handle frames that are ready, until `most` slots go through the tower together. False when there was none."""
        pairs: list[_Pair] = []
        took_in = False
        for camera in list(self._turns):
            ready = self.ahead.next(camera)
            if ready is None:
                continue
            took_in = True
            self._turns.remove(camera)
            self._turns.append(camera)
            pair = self._handle(*ready)
            if pair is not None and not self._rests(pair):
                pairs.append(pair)
            if (pair is None and most == 1) or len(pairs) == most:
                break
        self._take_in(pairs)
        return took_in

    def _decode(self, frame: Frame) -> _Decoded:
        """On the thread beside the worker, which may settle the grid or close the gate meanwhile: see `_pixels`."""
        rgb, grid, pixels = frame.decode(), self._grid, None
        blocks = block_means(rgb) if self.gate.limits.threshold else ()
        if grid is not None and frame.camera in self._size and not self.gate.resembles(frame.camera, blocks):
            pixels = self._model.prepare(rgb, grid)
        return _Decoded(frame, rgb, blocks, pixels, grid)

    def _pixels(self, decoded: _Decoded, grid: Grid) -> Tensor:
        if decoded.pixels is not None and decoded.grid == grid:
            return decoded.pixels
        return self._model.prepare(decoded.rgb, grid)

    def _handle(self, frame: Frame, ready: Future[_Decoded]) -> _Pair | None:
        """The slot that is whole with this frame, if any."""
        mailbox = self._mailboxes[frame.camera]
        if frame.jumped:
            self._follow_jump(frame)
        try:
            decoded = ready.result()
            self._settle_grid(decoded, mailbox)
        except Exception as error:  # whatever a camera sends must not stop the worker
            reason = getattr(error, "reason", "undecodable")
            mailbox.dropped(reason)
            self._log.report(f"{frame.camera}/{reason}", f"camera {frame.camera!r}: frame dropped: {error}")
            return None
        if not self._pairs(frame):
            self._part(frame.camera, "unpaired")
        first = self._half.pop(frame.camera, None)
        if first is None:
            self._half[frame.camera] = decoded
            mailbox.encoded()
            return None
        return _Pair(first, decoded)

    def _rests(self, pair: _Pair) -> bool:
        """Let the newest slot of a camera stay where this one shows no change."""
        camera, second = pair.camera, pair.second.frame
        if not self.gate.rests(camera, (pair.first.blocks, pair.second.blocks), second.stamp_ns):
            return False
        time_ns = second.stamp_ns + self._shift_ns.get(camera, 0)
        before = self._memory.newest_of(camera)
        if before is None or before[1] != self.gate.until_ns(camera):  # it was forgotten, in part or as a whole
            return False
        began = time.perf_counter()
        self._memory.extend(camera, Extension(1, time_ns, time_ns, second.stamp_ns))
        self.update_s.add(time.perf_counter() - began)
        self.gate.stays(camera, second.stamp_ns)
        self._mailboxes[camera].rested()
        return True

    def _take_in(self, pairs: Sequence[_Pair]) -> None:
        """Encode slots together, and insert each; alone where they fail together: each costs itself only."""
        if not pairs:
            return
        assert self._grid is not None
        grid, began = self._grid, time.perf_counter()
        thumbnails = [self.ahead.beside(partial(thumbnail, pair.second.rgb)) for pair in pairs]
        try:
            slots = [[self._pixels(decoded, grid) for decoded in pair] for pair in pairs]
            features = self._model.encode_slots(slots, grid)
            if features[0][0].is_cuda:
                torch.cuda.synchronize(features[0][0].device)
        except Exception as error:
            if len(pairs) == 1:
                self._fail(pairs[0], error)
            else:
                for pair in pairs:
                    self._take_in([pair])
            return
        each_s = (time.perf_counter() - began) / len(pairs)
        for pair, (low, detail), picture in zip(pairs, features, thumbnails, strict=True):
            self.encode_s.add(each_s)
            try:
                self._insert(pair, low, detail, picture.result(), grid)
            except Exception as error:
                self._fail(pair, error)

    def _fail(self, pair: _Pair, error: Exception) -> None:
        """A slot that fails costs its two frames, never the stream."""
        reason, camera, mailbox = "encode_failed", pair.camera, self._mailboxes[pair.camera]
        if isinstance(error, torch.OutOfMemoryError):
            reason = "out_of_memory"
            self._make_room()
        mailbox.dropped(reason)
        mailbox.withdrawn(reason)
        self._log.report(f"{camera}/{reason}", f"camera {camera!r}: slot dropped: {error}")

    def _insert(self, pair: _Pair, low: Tensor, detail: Tensor, picture: bytes, grid: Grid) -> None:
        first, second, camera = pair.first.frame, pair.second.frame, pair.camera
        slot = Slot(
            camera=camera,
            frame_id=second.frame_id,
            first_ns=first.stamp_ns,
            last_ns=second.stamp_ns,
            low=low,
            detail=detail,
            grid=grid,
            thumbnail=picture,
            shift_ns=self._shift_ns.get(camera, 0),
        )
        began = time.perf_counter()
        self.novelty_sum += self._memory.insert(slot)
        self.update_s.add(time.perf_counter() - began)
        self.gate.encoded(camera, (pair.first.blocks, pair.second.blocks), first.stamp_ns, second.stamp_ns)
        self._mailboxes[camera].encoded()

    def _pairs(self, frame: Frame) -> bool:
        """Whether a frame and the one that waits for it, if any, show one moment."""
        half = self._half.get(frame.camera)
        return half is None or 0 < frame.stamp_ns - half.frame.stamp_ns <= longest_pair_ns(self.slot_period_ns)

    def _part(self, camera: str, reason: str) -> None:
        """Give up on the frame that waits for its pair, if any."""
        if self._half.pop(camera, None) is not None:
            self._mailboxes[camera].withdrawn(reason)

    def _follow_jump(self, frame: Frame) -> None:
        camera = frame.camera
        self._part(camera, "unpaired")
        self.gate.forget(camera)
        if self._on_jump_back is JumpBack.RESET:
            self._memory.forget(Scope((camera,)))
            self._shift_ns.pop(camera, None)
        elif self._on_jump_back is JumpBack.FORK:
            self._shift_ns[camera] = self._shift_behind(camera, frame.stamp_ns)

    def _shift_behind(self, camera: str, stamp_ns: int) -> int:
        """The shift that puts `stamp_ns` behind all that the memory holds of `camera`.

        Cameras on one clock jump together: the shift of another one serves, where it leads near the newest slot, so
        that they stay in step. Else the new time begins one sampled frame after the newest.
        """
        if not self._memory.entries:
            return 0
        begin_ns = self._memory.newest[0] + self.slot_period_ns // 2
        (own_newest_ns, _) = self._memory.newest_of(camera) or (0, 0)
        others = [shift for other, shift in self._shift_ns.items() if other != camera]
        near_ns = begin_ns + longest_pair_ns(self.slot_period_ns)
        serving = [shift for shift in others if own_newest_ns < stamp_ns + shift <= near_ns]
        return max(serving, default=begin_ns - stamp_ns)

    def _settle_grid(self, decoded: _Decoded, mailbox: Mailbox) -> None:
        """One grid for the whole memory, from the first frame: whatever has another shape is fitted into it."""
        camera, size = decoded.frame.camera, decoded.rgb.shape[:2]
        before = self._size.get(camera)
        if size == before:
            return
        try:
            own = self._model.grid(*size)
        except ValueError as error:
            raise _UnusableSize(error) from error
        self._grid = self._grid or own
        self._size[camera] = size
        fitted = "" if own == self._grid else ": fitted into the memory's grid, between bars where proportions differ"
        if before is not None:
            mailbox.resized()
            change = f"image size changed from {before} to {size} (height, width)"
            self._log.report(f"{camera}/size", f"camera {camera!r}: {change}{fitted}")
        elif fitted:
            self._log.report(f"{camera}/size", f"camera {camera!r}: images of {size} (height, width){fitted}")
