"""Ingest: pairs a camera's frames into slots, encodes those that show a change and inserts them into the memory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from flash_vstream_ros.engine.archive.archive import Archive
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.durations import Durations
from flash_vstream_ros.engine.jpeg import thumbnail
from flash_vstream_ros.engine.newest_frames import NewestFrames
from flash_vstream_ros.memory.region import Region
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import Extension, Slot
from flash_vstream_ros.memory.spans import ALWAYS, Interval
from flash_vstream_ros.models.interface import Grid

from .decoder import DecodedFrame, FrameDecoder
from .faces import FaceDetector
from .mailbox import Frame, Mailbox
from .prefetch import Prefetch, ReadyFrame
from .stamps import JumpBack
from .static_scene import StaticSceneFilter

SLOW_STEPS = 2  # consecutive long steps of a slow camera; a single one is a pause
UNCOVERED = (
    "privacy.blur_faces is true, but the memory has images from before it was: ~/reset, or ~/forget of their interval,"
    " removes them"
)


class _Pair(NamedTuple):
    """Two decoded frames of one camera that become a slot; for a slow camera, the same frame twice."""

    first: DecodedFrame
    second: DecodedFrame
    waited: int  # number of frames that waited for the second one and are counted as encoded already

    @property
    def camera(self) -> str:
        return self.second.frame.camera

    @property
    def in_progress(self) -> int:
        return (1 if self.first is self.second else 2) - self.waited


class Follower(Protocol):
    """A second memory that is being made and must get what the memory gets."""

    def insert(self, slot: Slot) -> None: ...

    def extend(self, camera: str, extension: Extension) -> None: ...

    def forget(self, scope: Scope) -> None: ...

    def newest_ns(self, camera: str = "") -> int:
        """Time of its newest slot, of `camera` or of all cameras; new slots must come after it [ns]; 0: none."""


class Ingest:
    """Ingests the frames of all cameras in turn. Owned by the engine's worker; the prefetch thread decodes.

    A bad frame is counted by its mailbox and logged; the memory gets complete slots only.
    """

    def __init__(
        self,
        context: Context,
        config: EngineConfig,
        mailboxes: Mapping[str, Mailbox],
        archive: Archive | None = None,
    ) -> None:
        self.encode_s = Durations()
        self.update_s = Durations()
        self.novelty_sum = 0.0
        self.out_of_memory = False  # True once a slot did not fit on the device; the worker frees memory and clears it
        self.mailboxes = mailboxes
        self.newest_frames = NewestFrames()
        self._model = context.model
        self._memory = context.memory
        self._log = context.log
        self._archive = archive
        self._follower: Follower | None = None
        self._static_filter = StaticSceneFilter(config.static_scene)
        faces = FaceDetector() if config.blur_faces else None
        self._decoder = FrameDecoder(context.model, self._static_filter, faces)
        self.prefetch = Prefetch(mailboxes, self._decoder, context.wake)
        self._turns = list(mailboxes)
        self._unpaired: dict[str, DecodedFrame] = {}  # frames that wait for the second one of their slot
        self._last_ns: dict[str, int] = {}  # stamp of each camera's last frame
        self._long_steps: dict[str, int] = {}  # consecutive steps of each camera longer than `max_pair_ns`
        self._shift_ns: dict[str, int] = {}  # added to a camera's stamps after a time jump, see Slot.shift_ns
        self._faces_covered = config.blur_faces  # in all images of the memory
        self.apply(config)

    def apply(self, config: EngineConfig) -> None:
        """Adopt new rates and limits."""
        self._slot_period_ns = config.slot_period_ns
        self._max_pair_ns = config.max_pair_ns
        self._on_jump_back = config.on_jump_back
        self._static_filter.config = config.static_scene

    def reset(self) -> None:
        """Drop the frames that are not encoded yet, and reset the grid, the time shifts and the sum of novelty."""
        for camera in self.mailboxes:
            self.forget(camera, ALWAYS)
        self._decoder.reset()
        self._last_ns.clear()
        self._long_steps.clear()
        self._shift_ns.clear()
        self.novelty_sum = 0.0
        self._faces_covered = self._decoder.covers_faces

    def close(self) -> None:
        """Decode no more frames."""
        self.prefetch.close()
        self._decoder.close()

    def state(self) -> dict[str, Any]:
        """State to save and restore with the memory, as values that JSON can express."""
        grid = self._decoder.grid if self._memory.entries else ()
        return {
            "grid": [*grid],
            "shift_ns": self._shift_ns,
            "novelty_sum": self.novelty_sum,
            "faces_covered": self._faces_covered,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue with a restored memory: drop the frames that are not encoded yet, and adopt its grid and times."""
        self.reset()
        self._decoder.reset(Grid(*state["grid"]) if state["grid"] else None)
        self._shift_ns.update(state["shift_ns"])
        self.novelty_sum = state["novelty_sum"]
        self._note_older_images(covered=not self._memory.entries or state.get("faces_covered", False))
        for camera, mailbox in self.mailboxes.items():
            mailbox.reset((self._memory.newest_of(camera) or (0, 0))[1])

    def follow(self, follower: Follower | None) -> None:
        """Pass every change that frames make to the memory to `follower` as well."""
        self._follower = follower

    @property
    def grid(self) -> Grid | None:
        """The patch grid of the memory; None before its first frame."""
        return self._decoder.grid_if_known

    def continue_with(self, grid: Grid | None, novelty_sum: float) -> None:
        """Continue with a memory that has replaced the present one, and has the slots of all frames before."""
        if self._decoder.grid_if_known is None:
            self._decoder.reset(grid)
        self.novelty_sum = novelty_sum
        self._note_older_images(covered=False)  # the archive does not record it

    def _note_older_images(self, covered: bool) -> None:
        """Record if faces are covered in images that the memory has from before; log it if they are not but should."""
        self._faces_covered = covered and self._decoder.covers_faces
        if self._decoder.covers_faces and not covered:
            self._log.report("faces", UNCOVERED)

    @property
    def is_between_slots(self) -> bool:
        """Returns True if no frame waits for the second one of its slot."""
        return not self._unpaired

    def forget(self, camera: str, interval: Interval) -> None:
        """Drop the static-scene reference of `camera` and its frames that are not encoded yet, if in `interval`."""
        waiting = self._unpaired.get(camera)
        if waiting is not None and interval.touches(waiting.frame.stamp_ns, waiting.frame.stamp_ns):
            self._drop_unpaired(camera, "forgotten")
        self.prefetch.drop(camera, "forgotten", interval)
        self._static_filter.forget(camera, interval)

    def step(self, max_slots: int = 1) -> bool:
        """Handle decoded frames, and encode up to `max_slots` slots in one pass. Returns False without a frame."""
        pairs: list[_Pair] = []
        any_frame = False
        for camera in list(self._turns):
            ready = self.prefetch.pop(camera)
            if ready is None:
                continue
            any_frame = True
            self._turns.remove(camera)
            self._turns.append(camera)
            completed = self._pair(ready)
            pairs += [pair for pair in completed if not self._extend_static(pair)]
            if (not completed and max_slots == 1) or len(pairs) >= max_slots:
                break
        self._encode(pairs)
        return any_frame

    def _pair(self, ready: ReadyFrame) -> list[_Pair]:
        """The slots that this frame completes.

        Two frames further apart than `max_pair_ns` do not show one moment: the first one becomes a slot alone, used
        twice, as the published system pads a video with an odd number of frames. Every frame of a slow camera becomes
        a slot in this way.
        """
        frame = ready.frame
        mailbox = self.mailboxes[frame.camera]
        if frame.jumped:
            self._follow_jump(frame)
        try:
            decoded = ready.decoded.result()._replace(pose=ready.pose)
            self._fit_size(decoded, mailbox)
        except Exception as error:  # a camera's data must not stop the worker
            reason = getattr(error, "reason", "undecodable")
            mailbox.count_dropped(reason)
            self._log.report(f"{frame.camera}/{reason}", f"camera {frame.camera}: dropped frame: {error}")
            return []
        step_ns = frame.stamp_ns - self._last_ns.get(frame.camera, frame.stamp_ns)
        self._last_ns[frame.camera] = frame.stamp_ns
        if decoded.has_faces:
            mailbox.count_covered()
        if step_ns < 0:  # a single stamp was too new
            self._drop_unpaired(frame.camera, "unpaired")
        long_steps = self._long_steps.get(frame.camera, 0) + 1 if step_ns > self._max_pair_ns else 0
        self._long_steps[frame.camera] = long_steps
        first = self._unpaired.pop(frame.camera, None)
        if first is not None and not long_steps:
            return [_Pair(first, decoded, waited=1)]
        completed = [] if first is None else [_Pair(first, first, waited=1)]
        if long_steps >= SLOW_STEPS:
            completed.append(_Pair(decoded, decoded, waited=0))
        else:
            self._unpaired[frame.camera] = decoded
            mailbox.count_encoded()
        return completed

    def _extend_static(self, pair: _Pair) -> bool:
        """Extend the camera's newest slot if `pair` shows no change. Returns False if it has to be encoded."""
        camera, second, blocks = pair.camera, pair.second.frame, (pair.first.blocks, pair.second.blocks)
        if not self._static_filter.is_static(camera, blocks, second.stamp_ns, pair.second.pose):
            return False
        newest = self._memory.newest_of(camera)
        if newest is None or newest[1] != self._static_filter.until_ns(camera):  # a part of it was forgotten
            return False
        began = time.perf_counter()
        time_ns = second.stamp_ns + self._shift_ns.get(camera, 0)
        extension = Extension(1, time_ns, time_ns, second.stamp_ns, Region.of(pair.second.pose))
        self._memory.extend(camera, extension)
        self.newest_frames.note(camera, second.stamp_ns)
        self.update_s.add(time.perf_counter() - began)
        self._static_filter.extend(camera, second.stamp_ns)
        if self._follower is not None:
            self._follower.extend(camera, extension)
        if self._archive is not None:
            self._archive.extend(camera, second.stamp_ns)
        self.mailboxes[camera].count_static(pair.in_progress, pair.waited)
        return True

    def _encode(self, pairs: Sequence[_Pair]) -> None:
        """Encode slots in one pass and insert them. If the pass fails, encode them one by one to drop only bad ones."""
        if not pairs:
            return
        grid, began = self._decoder.grid, time.perf_counter()
        thumbnails = [self.prefetch.submit(partial(thumbnail, pair.second.rgb)) for pair in pairs]
        try:
            slots = [[self._decoder.pixels(decoded) for decoded in (pair.first, pair.second)] for pair in pairs]
            features = self._model.encode_slots(slots, grid)
            if features[0][0].is_cuda:
                torch.cuda.synchronize(features[0][0].device)
        except Exception as error:
            if len(pairs) == 1:
                self._fail(pairs[0], error)
            else:
                for pair in pairs:
                    self._encode([pair])
            return
        each_s = (time.perf_counter() - began) / len(pairs)
        for pair, (low, detail), jpeg in zip(pairs, features, thumbnails, strict=True):
            self.encode_s.add(each_s)
            try:
                self._insert(pair, low, detail, jpeg.result(), grid)
            except Exception as error:
                self._fail(pair, error)

    def _fail(self, pair: _Pair, error: Exception) -> None:
        """Drop the frames of a slot that failed."""
        is_oom = isinstance(error, torch.OutOfMemoryError)
        self.out_of_memory |= is_oom
        reason, camera = "out_of_memory" if is_oom else "encode_failed", pair.camera
        self.mailboxes[camera].count_dropped(reason, pair.in_progress, pair.waited)
        self._log.report(f"{camera}/{reason}", f"camera {camera}: dropped slot: {error}")

    def _insert(self, pair: _Pair, low: Tensor, detail: Tensor, jpeg: bytes, grid: Grid) -> None:
        first, second, camera = pair.first.frame, pair.second.frame, pair.camera
        slot = Slot(
            camera=camera,
            frame_id=second.frame_id,
            first_ns=first.stamp_ns,
            last_ns=second.stamp_ns,
            low=low,
            detail=detail,
            grid=grid,
            thumbnail=jpeg,
            shift_ns=self._shift_ns.get(camera, 0),
            pose=pair.second.pose,
        )
        began = time.perf_counter()
        novelty = self._memory.insert(slot)
        self.newest_frames.note(camera, second.stamp_ns)
        self.novelty_sum += novelty
        self.update_s.add(time.perf_counter() - began)
        if self._follower is not None:
            self._follower.insert(slot)
        if self._archive is not None:
            self._archive.insert(slot, pair.second.rgb, novelty, self._memory.cluster_of_newest(camera))
        blocks = (pair.first.blocks, pair.second.blocks)
        self._static_filter.set_reference(camera, blocks, first.stamp_ns, second.stamp_ns, slot.pose)
        self.mailboxes[camera].count_encoded(pair.in_progress)

    def _drop_unpaired(self, camera: str, reason: str) -> None:
        """Drop the frame that waits for the second one of its slot, if any."""
        if self._unpaired.pop(camera, None) is not None:
            self.mailboxes[camera].count_dropped(reason, in_progress=0, encoded=1)

    def _follow_jump(self, frame: Frame) -> None:
        """Handle a camera whose stamps jumped back, as time.on_jump_back says."""
        camera = frame.camera
        self._last_ns.pop(camera, None)
        self._drop_unpaired(camera, "unpaired")
        self._static_filter.forget(camera)
        if self._on_jump_back is JumpBack.RESET:
            self._memory.forget(Scope((camera,)))
            if self._follower is not None:
                self._follower.forget(Scope((camera,)))
            self._shift_ns.pop(camera, None)
        elif self._on_jump_back is JumpBack.FORK:
            self._shift_ns[camera] = self._fork_shift_ns(camera, frame.stamp_ns)

    def _fork_shift_ns(self, camera: str, stamp_ns: int) -> int:
        """The shift that puts `stamp_ns` after every slot of `camera` in the memory.

        Cameras on one clock jump together and must stay synchronous. So the shift of another camera is reused if the
        shifted stamp is near the newest slot. Otherwise the new time begins one sampled frame after the newest slot.
        """
        newest_ns, own_newest_ns = self._memory.newest[0], (self._memory.newest_of(camera) or (0, 0))[0]
        if self._follower is not None:
            newest_ns = max(newest_ns, self._follower.newest_ns())
            own_newest_ns = max(own_newest_ns, self._follower.newest_ns(camera))
        if not newest_ns:
            return 0
        begin_ns = newest_ns + self._slot_period_ns // 2
        others = [shift for other, shift in self._shift_ns.items() if other != camera]
        near_ns = begin_ns + self._max_pair_ns
        shared = [shift for shift in others if own_newest_ns < stamp_ns + shift <= near_ns]
        return max(shared, default=begin_ns - stamp_ns)

    def _fit_size(self, decoded: DecodedFrame, mailbox: Mailbox) -> None:
        """Fit a frame to the memory's grid; count and log a change of its size. Raises UnusableSize."""
        before = self._decoder.fit(decoded)
        if before is None:
            return
        camera, size = decoded.frame.camera, decoded.rgb.shape[:2]
        how = ": letterboxed to the grid of the memory" if self._decoder.is_letterboxed(decoded) else ""
        if before != (0, 0):
            mailbox.count_resized()
            self._log.report(
                f"{camera}/size", f"camera {camera}: image size changed from {before} to {size} (height, width){how}"
            )
        elif how:
            self._log.report(f"{camera}/size", f"camera {camera}: images of {size} (height, width){how}")
