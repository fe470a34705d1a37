"""The way in: a camera's frames, paired into slots, encoded, inserted into the memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.slot import Slot
from flash_vstream_ros.memory.spans import ALWAYS, Interval
from flash_vstream_ros.models.interface import Grid, VisionLanguageModel

from .durations import Durations
from .frames import Frame, Mailbox, thumbnail
from .notices import Notices
from .stamps import JumpBack


def longest_pair_ns(slot_period_ns: int) -> int:
    """Two frames further apart than this do not show one moment and are not paired [ns]."""
    return 2 * slot_period_ns


class _Decoded(NamedTuple):
    frame: Frame
    rgb: np.ndarray  # [height, width, 3] uint8


class _UnusableSize(ValueError):
    reason = "unusable_size"


class Ingest:
    """Takes frames from the mailboxes, one a step, cameras in turn. Owned by the engine's worker.

    Whatever is wrong with a frame is counted at its mailbox and said; the memory only ever sees whole slots.
    `slot_period_ns`, the stamp length of a slot, may change between two steps. `make_room` is called when the device
    runs out of memory.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        memory: Memory,
        mailboxes: Mapping[str, Mailbox],
        notices: Notices,
        slot_period_ns: int,
        on_jump_back: JumpBack = JumpBack.IGNORE,
        make_room: Callable[[], object] = lambda: None,
    ) -> None:
        self.encode_s = Durations()
        self.update_s = Durations()
        self.novelty_sum = 0.0
        self._model = model
        self._memory = memory
        self._mailboxes = mailboxes
        self._notices = notices
        self.slot_period_ns = slot_period_ns
        self._on_jump_back = on_jump_back
        self._make_room = make_room
        self._turns = list(mailboxes)
        self._half: dict[str, _Decoded] = {}
        self._size: dict[str, tuple[int, int]] = {}
        self._grid: Grid | None = None
        self._shift_ns: dict[str, int] = {}  # what brings a camera's stamps behind what it showed before they jumped

    def reset(self) -> None:
        """Forget what waits for its pair, the grid and the shifts; novelty is summed up anew."""
        for camera in list(self._half):
            self.forget(camera, ALWAYS)
        self._size.clear()
        self._shift_ns.clear()
        self._grid = None
        self.novelty_sum = 0.0

    def forget(self, camera: str, interval: Interval) -> None:
        """Let go of the frame that waits for its pair when its stamp lies in `interval`."""
        half = self._half.get(camera)
        if half is not None and interval.touches(half.frame.stamp_ns, half.frame.stamp_ns):
            self._part(camera, "forgotten")

    def step(self) -> bool:
        """Handle one waiting frame. False when there was none."""
        for turn, camera in enumerate(self._turns):
            frame = self._mailboxes[camera].take()
            if frame is not None:
                self._turns = self._turns[turn + 1 :] + self._turns[: turn + 1]
                self._handle(frame, self._mailboxes[camera])
                return True
        return False

    def _handle(self, frame: Frame, mailbox: Mailbox) -> None:
        if frame.jumped:
            self._follow_jump(frame)
        try:
            decoded = _Decoded(frame, frame.decode())
            self._settle_grid(decoded, mailbox)
        except Exception as error:  # whatever a camera sends must not stop the worker
            reason = getattr(error, "reason", "undecodable")
            mailbox.dropped(reason)
            self._notices.give(f"{frame.camera}/{reason}", f"camera {frame.camera!r}: frame dropped: {error}")
            return
        if not self._pairs(frame):
            self._part(frame.camera, "unpaired")
        first = self._half.pop(frame.camera, None)
        if first is None:
            self._half[frame.camera] = decoded
            mailbox.encoded()
            return
        try:
            self._insert(first, decoded)
        except Exception as error:  # a failing slot costs its two frames, never the stream
            reason = "encode_failed"
            if isinstance(error, torch.OutOfMemoryError):
                reason = "out_of_memory"
                self._make_room()
            mailbox.dropped(reason)
            mailbox.withdrawn(reason)
            self._notices.give(f"{frame.camera}/{reason}", f"camera {frame.camera!r}: slot dropped: {error}")
        else:
            mailbox.encoded()

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
        if self._on_jump_back is JumpBack.RESET:
            self._memory.forget([camera])
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
            self._notices.give(f"{camera}/size", f"camera {camera!r}: {change}{fitted}")
        elif fitted:
            self._notices.give(f"{camera}/size", f"camera {camera!r}: images of {size} (height, width){fitted}")

    def _insert(self, first: _Decoded, second: _Decoded) -> None:
        assert self._grid is not None
        started = time.perf_counter()
        low, detail = self._model.encode([first.rgb, second.rgb], self._grid)
        if low.is_cuda:
            torch.cuda.synchronize(low.device)
        encoded = time.perf_counter()
        slot = Slot(
            camera=second.frame.camera,
            frame_id=second.frame.frame_id,
            first_ns=first.frame.stamp_ns,
            last_ns=second.frame.stamp_ns,
            low=low,
            detail=detail,
            grid=self._grid,
            thumbnail=thumbnail(second.rgb),
            shift_ns=self._shift_ns.get(second.frame.camera, 0),
        )
        inserting = time.perf_counter()
        novelty = self._memory.insert(slot)
        self.novelty_sum += novelty
        self.encode_s.add(encoded - started)
        self.update_s.add(time.perf_counter() - inserting)
