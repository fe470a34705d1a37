"""Snapshots of a STAR memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .slot import EntryKind, Grid, MemoryEntry, MemorySnapshot
from .star import StarVideoMemory


@dataclass(frozen=True, eq=False)
class StarSnapshot(MemorySnapshot):
    """A snapshot with the temporal memory as `csm`, and the retrieved and then the spatial frames as `dam`.

    The abstract memory has no entry, since it does not consist of separate frames.
    """

    abstract: Tensor = field(kw_only=True)  # [slots, tokens, dim]


def star_video_snapshot(
    memory: StarVideoMemory, stamps_ns: Sequence[int], thumbnails: Sequence[bytes] = (), camera: str = ""
) -> StarSnapshot:
    """Snapshot of the STAR memory of a video with these frame stamps [ns]; times are frame indices."""
    last = len(stamps_ns) - 1
    frame_numbers = (*memory.retrieved_frames, *range(last + 1 - len(memory.spatial), last + 1))
    # An empty cluster was reseeded with an unrecorded frame of the video.
    members = [own or tuple(range(last + 1)) for own in memory.temporal_members]
    side = round(memory.spatial.shape[1] ** 0.5)

    def entry(kind: EntryKind, frames: Sequence[int], weight: float) -> MemoryEntry:
        middle = frames[len(frames) // 2]
        thumbnail = thumbnails[middle] if thumbnails else b""
        first_ns, last_ns = stamps_ns[frames[0]], stamps_ns[frames[-1]]
        return MemoryEntry(kind, camera, "", first_ns, last_ns, weight, thumbnail, stamps_ns[middle])

    weights = memory.temporal_weights.tolist()
    return StarSnapshot(
        dam=torch.cat([memory.retrieved, memory.spatial]),
        dam_times=torch.tensor(frame_numbers, dtype=torch.float64),
        csm=memory.temporal,
        csm_times=torch.tensor([sum(own) / len(own) for own in members], dtype=torch.float64),
        grid=Grid(side, side),
        entries=(
            *(entry(EntryKind.DAM, (frame,), 1.0) for frame in frame_numbers),
            *(entry(EntryKind.CSM, own, weight) for own, weight in zip(members, weights, strict=True)),
        ),
        slots_seen=len(stamps_ns),
        text_slots=len(memory.temporal),
        abstract=memory.abstract,
    )
