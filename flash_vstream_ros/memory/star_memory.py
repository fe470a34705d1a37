"""STAR memory of streams: frame by frame, bounded, deterministic, and timed by message stamps.

Each camera's newest frame is its spatial memory. When the next one comes it enters the temporal memory, whose clusters
are merged by the rule of FlashMemory and keep their weights, and the camera's abstract memory. The frames retrieved are
the exemplars of the heaviest clusters: no frame is kept to be looked up. While there are no more frames than clusters
this is the memory of the clip so far, and the abstract memory always is.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from .admission import check, check_extension
from .config import FlashMemoryConfig
from .flash_memory import FlashMemory
from .interface import Forgotten, Memory
from .scope import EVERYTHING, Scope
from .slot import Extension, Grid, MemoryEntry, MemorySnapshot, Slot
from .star import AbstractAttention, StarConfig
from .star_snapshot import StarSnapshot
from .summaries import Summaries
from .time_ids import Timed
from .whole_slots import HeldKind


class StarMemory(Memory):
    """Takes in slots of two frames, whose features stand one behind the other; counts frames, not slots.

    Of `config` the exemplars, the horizon and the clock hold; the sizes are those of `star`, which the model was
    trained with.
    """

    def __init__(self, config: FlashMemoryConfig, star: StarConfig, attention: AbstractAttention) -> None:
        if star.spatial_frames != 1 or not 1 <= star.retrieved_frames <= star.temporal_clusters:
            raise ValueError(f"a stream has one newest frame, and no more retrieved ones than clusters, not {star}")
        self.config = config
        self._star, self._attention = star, attention
        self.revision = -1
        self._seen = FlashMemory(self._sizes(config))  # all frames but the newest
        self.reset()

    def reset(self) -> None:
        self._seen.reset()
        self._newest: dict[str, Slot] = {}
        self._stays: dict[str, Extension] = {}  # how the newest frames went on
        self._summaries = Summaries(self._attention, self._star)
        self.slots_seen = 0
        self.revision += 1

    @property
    def parts(self) -> list[Timed]:
        """The clusters, and each camera's newest frame."""
        return [*self._seen.parts, *self._newest.values()]

    @property
    def entries(self) -> int:
        return self._seen.entries + len(self._newest)

    @property
    def capacity(self) -> int:
        """Most entries there can be with the cameras that there are."""
        return self._seen.capacity + max(1, len(self._newest))

    @property
    def tokens(self) -> int:
        whole = sum(len(frame.detail) for frame in self._newest.values())
        abstract = self._summaries.shown(EVERYTHING)
        return self._seen.tokens + whole + abstract.shape[0] * abstract.shape[1]

    @property
    def bytes(self) -> int:
        tensors = [tensor for frame in self._newest.values() for tensor in (frame.low, frame.detail)]
        tensors += self._summaries.tensors
        thumbnails = sum(len(frame.thumbnail) for frame in self._newest.values())
        return self._seen.bytes + sum(tensor.numel() * tensor.element_size() for tensor in tensors) + thumbnails

    @torch.no_grad()
    def insert(self, slot: Slot) -> float:
        """Take in both frames of a slot; the novelty of those that left the spatial memory, 1 where none did."""
        if not bool(slot.low.isfinite().all() & slot.detail.isfinite().all()):
            raise ValueError(f"a slot of camera {slot.camera!r} has NaN or infinite features; leave it out")
        cameras = {*self._newest, *self._seen.cameras, slot.camera}
        if len(cameras) > self._star.temporal_clusters:
            raise ValueError(f"{len(cameras)} cameras need as many clusters, not {self._star.temporal_clusters}")
        frames = _frames(slot)
        other = next(iter(self._newest.values()), None)
        kind = HeldKind(other.low[None], other.detail[None]) if other else None
        check(frames[0], kind, other.grid if other else Grid(0, 0), self.newest_of(slot.camera), 1)
        novelty = [self._take_in(frame) for frame in frames]
        self.slots_seen += len(frames)
        return max(novelty)

    def stay(self, camera: str, stay: Extension) -> None:
        """Let the newest frame of `camera` go on, as FlashMemory does with slots, for both frames of each.

        The temporal memory learns of it when the frame enters there; the abstract memory takes it in once.
        """
        newest = self._newest.get(camera)
        check_extension(camera, stay, (newest.time_ns, newest.last_ns) if newest else None)
        assert newest is not None
        frames = stay._replace(slots=2 * stay.slots, time_sum=2 * stay.time_sum)
        before = self._stays.get(camera)
        self._stays[camera] = before.joined(frames) if before else frames
        self._newest[camera] = newest.staying(stay)
        self.slots_seen += frames.slots

    def forget(self, scope: Scope = EVERYTHING) -> Forgotten:
        """Forget what `cameras` (none given: all) saw between two stamps, as FlashMemory does, and the newest frames.

        The abstract memory of a camera that may hold anything of it goes as a whole: nothing in it can be told apart.
        """
        lost = self._seen.forget(scope)
        gone = [frame.camera for frame in self._shown(scope)]
        for camera in gone:
            del self._newest[camera]
            self._stays.pop(camera, None)
        self._summaries.forget(scope)
        self.revision += bool(lost.slots or gone)
        return Forgotten(lost.slots + len(gone), lost.removed, lost.rebuilt)

    def resize(self, config: FlashMemoryConfig) -> None:
        """Go on with another clock and another number of exemplars; the sizes stay."""
        self._seen.resize(self._sizes(config))
        self.config = config

    def snapshot(self, scope: Scope = EVERYTHING) -> MemorySnapshot:
        """What the memory holds of `cameras` (none given: all) between two stamps, as FlashMemory shows it.

        The abstract memory of a camera is shown where all that it is made from lies in the interval.
        """
        seen, newest = self._seen.snapshot(scope), self._shown(scope)
        abstract = self._summaries.shown(scope)
        details = [*seen.dam, *(frame.detail for frame in newest)]
        shown, latest = len(seen.dam), max(seen.csm_times.tolist(), default=-1.0)
        return StarSnapshot(
            dam=torch.stack(details) if details else torch.zeros(0, 0, 0),
            dam_times=torch.cat([seen.dam_times, torch.full((len(newest),), latest + 1, dtype=torch.float64)]),
            csm=seen.csm,
            csm_times=seen.csm_times,
            grid=newest[0].grid if newest else seen.grid,
            entries=(*seen.entries[:shown], *(frame.entry() for frame in newest), *seen.entries[shown:]),
            slots_seen=seen.slots_seen + len(newest),
            text_slots=seen.text_slots,
            abstract=abstract.to(details[0].dtype) if details else abstract[:0],
        )

    def listed(self, scope: Scope = EVERYTHING) -> tuple[MemoryEntry, ...]:
        return self.snapshot(scope).entries

    def saw(self, scope: Scope = EVERYTHING) -> bool:
        return bool(self._shown(scope)) or self._seen.saw(scope)

    def _take_in(self, frame: Slot) -> float:
        """Let `frame` be its camera's newest; the novelty of the one before it."""
        before, self._newest[frame.camera] = self._newest.get(frame.camera), frame
        if before is None:
            return 1.0
        self._summaries.add(before)
        stay = self._stays.pop(frame.camera, None)
        if stay is None:
            return self._seen.insert(before)
        novelty = self._seen.insert(replace(before, last_ns=before.thumbnail_ns))
        self._seen.stay(frame.camera, stay)
        return novelty

    def _shown(self, scope: Scope) -> list[Slot]:
        """Newest frames that may be seen, by time."""
        return sorted(scope.among(self._newest.values()), key=lambda frame: frame.time_ns)

    def _sizes(self, config: FlashMemoryConfig) -> FlashMemoryConfig:
        return replace(
            config,
            csm_slots=self._star.temporal_clusters,
            dam_slots=self._star.retrieved_frames,
            recent_slots=0,
            slot_period_ns=max(1, config.slot_period_ns // 2),
            patches_per_token=1,
        )


def _frames(slot: Slot) -> list[Slot]:
    """Both frames, each with its own stamp; the picture of a slot is that of the second."""
    low, detail = (tensor.unflatten(0, (2, -1)) for tensor in (slot.low, slot.detail))
    first = replace(slot, last_ns=slot.first_ns, low=low[0].clone(), detail=detail[0].clone(), thumbnail=b"")
    return [first, replace(slot, first_ns=slot.last_ns, low=low[1].clone(), detail=detail[1].clone())]
