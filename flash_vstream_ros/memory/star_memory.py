"""STAR memory of a stream: bounded, deterministic, and timed by message stamps.

The newest frame of each camera is its spatial memory. When the next frame arrives, the previous one enters the camera's
abstract memory and the temporal memory, which is clustered like CSM. Retrieved frames are the exemplars of the heaviest
clusters, so no other frames are stored. The abstract memory always equals the published one for the video so far. The
other memories equal it only as long as there are no more frames than clusters.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from .abstract_memories import AbstractMemories
from .config import PUBLISHED, FlashMemoryConfig
from .flash_memory import FlashMemory
from .interface import Forgotten, Memory
from .scope import EVERYTHING, Scope
from .slot import Extension, Grid, MemoryEntry, MemorySnapshot, Slot
from .slot_checks import SlotFeatures, check_extension, check_finite, check_slot
from .star import AbstractAttention, StarConfig
from .star_snapshot import StarSnapshot
from .time_ids import Timed


class StarMemory(Memory):
    """STAR memory. A slot concatenates the features of two frames; the memory separates them and counts frames.

    Exemplars, horizon and clock come from `config`, the sizes from `star`, as in the model's training.
    """

    def __init__(self, config: FlashMemoryConfig, star: StarConfig, attention: AbstractAttention) -> None:
        if star.spatial_frames != 1 or not 1 <= star.retrieved_frames <= star.temporal_clusters:
            raise ValueError(
                f"a stream needs one spatial frame and at most as many retrieved frames as clusters, not {star}"
            )
        self.config = config
        self._star, self._attention = star, attention
        self.revision = -1
        self._temporal = FlashMemory(self._sizes(config))  # all frames but the newest of each camera
        self.reset()

    def reset(self) -> None:
        self._temporal.reset()
        self._newest: dict[str, Slot] = {}
        self._extensions: dict[str, Extension] = {}  # of the newest frames
        self._abstract = AbstractMemories(self._attention, self._star)
        self.slots_seen = 0
        self.revision += 1

    @property
    def parts(self) -> list[Timed]:
        """The clusters, and the newest frame of each camera."""
        return [*self._temporal.parts, *self._newest.values()]

    @property
    def entries(self) -> int:
        return self._temporal.entries + len(self._newest)

    @property
    def capacity(self) -> int:
        """Maximum number of entries with the current cameras."""
        return self._temporal.capacity + max(1, len(self._newest))

    @property
    def tokens(self) -> int:
        spatial = sum(len(frame.detail) for frame in self._newest.values())
        abstract = self._abstract.read(EVERYTHING)
        return self._temporal.tokens + spatial + abstract.shape[0] * abstract.shape[1]

    @property
    def bytes(self) -> int:
        tensors = [tensor for frame in self._newest.values() for tensor in (frame.low, frame.detail)]
        tensors += self._abstract.tensors
        thumbnails = sum(len(frame.thumbnail) for frame in self._newest.values())
        return self._temporal.bytes + sum(tensor.numel() * tensor.element_size() for tensor in tensors) + thumbnails

    @torch.no_grad()
    def insert(self, slot: Slot) -> float:
        """Insert both frames of a slot. Returns the largest novelty of the frames that then enter the temporal memory.

        The camera's first slot has novelty 1; for errors see Memory.
        """
        check_finite(slot)
        cameras = {*self._newest, *self._temporal.cameras, slot.camera}
        if len(cameras) > self._star.temporal_clusters:
            raise ValueError(
                f"{len(cameras)} cameras need as many clusters, and there are {self._star.temporal_clusters}; "
                "use fewer cameras"
            )
        frames = _frames(slot)
        other = next(iter(self._newest.values()), None)
        stored = SlotFeatures.of(other) if other else None
        check_slot(frames[0], stored, other.grid if other else Grid(0, 0), self.newest_of(slot.camera), 1)
        novelty = [self._replace_newest(frame) for frame in frames]
        self.slots_seen += len(frames)
        return max(novelty)

    def extend(self, camera: str, extension: Extension) -> None:
        """Extend the newest frame of `camera` by two frames for each slot of `extension`.

        The temporal memory is extended once the frame enters it; the abstract memory counts the frame once.
        """
        newest = self._newest.get(camera)
        check_extension(camera, extension, (newest.time_ns, newest.last_ns) if newest else None)
        assert newest is not None
        frames = extension._replace(slots=2 * extension.slots, time_sum=2 * extension.time_sum)
        before = self._extensions.get(camera)
        self._extensions[camera] = before.followed_by(frames) if before else frames
        self._newest[camera] = newest.extended(extension)
        self.slots_seen += frames.slots

    def forget(self, scope: Scope = EVERYTHING) -> Forgotten:
        """Forget clusters as FlashMemory does, and newest frames in `scope`.

        An abstract memory that may contain anything of `scope` is removed as a whole.
        """
        forgotten = self._temporal.forget(scope)
        cameras = [frame.camera for frame in self._newest_in(scope)]
        for camera in cameras:
            del self._newest[camera]
            self._extensions.pop(camera, None)
        self._abstract.forget(scope)
        self.revision += bool(forgotten.slots or cameras)
        return Forgotten(forgotten.slots + len(cameras), forgotten.removed, forgotten.rebuilt)

    def resize(self, config: FlashMemoryConfig) -> None:
        """Change the clock and the number of exemplars; sizes do not change."""
        self._temporal.resize(self._sizes(config))
        self.config = config

    def snapshot(self, scope: Scope = EVERYTHING) -> MemorySnapshot:
        """Copy of the part in `scope`, as in FlashMemory.

        The abstract memory of a camera is included if all its frames lie in `scope`.
        """
        temporal, newest = self._temporal.snapshot(scope), self._newest_in(scope)
        abstract = self._abstract.read(scope)
        details = [*temporal.dam, *(frame.detail for frame in newest)]
        retrieved, latest = len(temporal.dam), max(temporal.csm_times.tolist(), default=-1.0)
        return StarSnapshot(
            dam=torch.stack(details) if details else torch.zeros(0, 0, 0),
            dam_times=torch.cat([temporal.dam_times, torch.full((len(newest),), latest + 1, dtype=torch.float64)]),
            csm=temporal.csm,
            csm_times=temporal.csm_times,
            grid=newest[0].grid if newest else temporal.grid,
            entries=(*temporal.entries[:retrieved], *(f.entry() for f in newest), *temporal.entries[retrieved:]),
            slots_seen=temporal.slots_seen + len(newest),
            text_slots=temporal.text_slots,
            abstract=abstract.to(details[0].dtype) if details else abstract[:0],
        )

    def list_entries(self, scope: Scope = EVERYTHING) -> tuple[MemoryEntry, ...]:
        return self.snapshot(scope).entries

    def may_contain(self, scope: Scope = EVERYTHING) -> bool:
        return bool(self._newest_in(scope)) or self._temporal.may_contain(scope)

    def _replace_newest(self, frame: Slot) -> float:
        """Make `frame` the newest of its camera, and insert the previous one. Returns the novelty of that, or 1."""
        before, self._newest[frame.camera] = self._newest.get(frame.camera), frame
        if before is None:
            return 1.0
        self._abstract.add(before)
        extension = self._extensions.pop(frame.camera, None)
        if extension is None:
            return self._temporal.insert(before)
        novelty = self._temporal.insert(replace(before, last_ns=before.thumbnail_ns))
        self._temporal.extend(frame.camera, extension)
        return novelty

    def _newest_in(self, scope: Scope) -> list[Slot]:
        """The newest frames in `scope`, ordered by time."""
        return sorted(scope.select(self._newest.values()), key=lambda frame: frame.time_ns)

    def _sizes(self, config: FlashMemoryConfig) -> FlashMemoryConfig:
        return replace(
            config,
            csm_slots=self._star.temporal_clusters,
            dam_slots=self._star.retrieved_frames,
            recent_slots=0,
            slot_period_ns=max(1, config.slot_period_ns // 2),
            patches_per_token=1,
            retention=PUBLISHED,
        )


def _frames(slot: Slot) -> list[Slot]:
    """Split a slot into its frames, each with its own stamp; the thumbnail belongs to the second."""
    low, detail = (tensor.unflatten(0, (2, -1)) for tensor in (slot.low, slot.detail))
    first = replace(slot, last_ns=slot.first_ns, low=low[0].clone(), detail=detail[0].clone(), thumbnail=b"")
    return [first, replace(slot, first_ns=slot.last_ns, low=low[1].clone(), detail=detail[1].clone())]
