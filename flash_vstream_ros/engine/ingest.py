"""The way in: a camera's frames, paired into slots, encoded, inserted into the memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.slot import Slot
from flash_vstream_ros.models.interface import Grid, VisionLanguageModel

from .durations import Durations
from .frames import Frame, Mailbox, thumbnail
from .notices import Notices

# Two frames further apart than this many slots do not show one moment and are not paired.
LONGEST_PAIR_SLOTS = 2


class _Decoded(NamedTuple):
    frame: Frame
    rgb: np.ndarray  # [height, width, 3] uint8


class _UnusableSize(ValueError):
    reason = "unusable_size"


class Ingest:
    """Takes frames from the mailboxes, one a step, cameras in turn. Owned by the engine's worker.

    Whatever is wrong with a frame is counted at its mailbox and said; the memory only ever sees whole slots.
    `slot_period_ns`, the stamp length of a slot, may change between two steps.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        memory: FlashMemory,
        mailboxes: Mapping[str, Mailbox],
        notices: Notices,
        slot_period_ns: int,
    ) -> None:
        self.encode_s = Durations()
        self.update_s = Durations()
        self.novelty_sum = 0.0
        self._model = model
        self._memory = memory
        self._mailboxes = mailboxes
        self._notices = notices
        self.slot_period_ns = slot_period_ns
        self._turns = list(mailboxes)
        self._half: dict[str, _Decoded] = {}
        self._size: dict[str, tuple[int, int]] = {}
        self._grid: Grid | None = None

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
        try:
            decoded = _Decoded(frame, frame.decode())
            self._settle_grid(decoded)
        except Exception as error:  # whatever a camera sends must not stop the worker
            reason = getattr(error, "reason", "undecodable")
            mailbox.dropped(reason)
            self._notices.give(f"{frame.camera}/{reason}", f"camera {frame.camera!r}: frame dropped: {error}")
            return
        first = self._half.pop(frame.camera, None)
        if first is not None and frame.stamp_ns - first.frame.stamp_ns > LONGEST_PAIR_SLOTS * self.slot_period_ns:
            mailbox.withdrawn("unpaired")
            first = None
        if first is None:
            self._half[frame.camera] = decoded
            mailbox.encoded()
            return
        try:
            self._insert(first, decoded)
        except Exception as error:  # a failing slot costs its two frames, never the stream
            reason = "out_of_memory" if isinstance(error, torch.OutOfMemoryError) else "encode_failed"
            mailbox.dropped(reason)
            mailbox.withdrawn(reason)
            self._notices.give(f"{frame.camera}/{reason}", f"camera {frame.camera!r}: slot dropped: {error}")
        else:
            mailbox.encoded()

    def _settle_grid(self, decoded: _Decoded) -> None:
        """One grid for the whole memory, from the first frame: later sizes are resized into it."""
        camera, size = decoded.frame.camera, decoded.rgb.shape[:2]
        if self._grid is None:
            try:
                self._grid = self._model.grid(*size)
            except ValueError as error:
                raise _UnusableSize(error) from error
        if self._size.setdefault(camera, size) != size:
            self._notices.give(
                f"{camera}/size",
                f"camera {camera!r}: image size changed from {self._size[camera]} to {size} (height, width);"
                " its frames are resized to the memory's grid from now on",
            )
            self._size[camera] = size

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
        )
        inserting = time.perf_counter()
        novelty = self._memory.insert(slot)
        self.novelty_sum += novelty
        self.encode_s.add(encoded - started)
        self.update_s.add(time.perf_counter() - inserting)
