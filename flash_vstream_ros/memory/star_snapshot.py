"""A STAR memory in the form that models answer from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .slot import EntryKind, Grid, MemoryEntry, MemorySnapshot
from .star import StarClip


@dataclass(frozen=True, eq=False)
class StarSnapshot(MemorySnapshot):
    """A snapshot whose `csm` is the temporal memory and whose `dam` are the retrieved frames, then the spatial ones.

    The abstract memory is no entry: what it holds cannot be told apart.
    """

    abstract: Tensor = field(kw_only=True)  # [slots, tokens, dim]


def clip_snapshot(
    clip: StarClip, stamps_ns: Sequence[int], thumbnails: Sequence[bytes] = (), camera: str = ""
) -> StarSnapshot:
    """The STAR memory of a clip whose frames have these stamps [ns]; times are numbers of frames."""
    last = len(stamps_ns) - 1
    shown = (*clip.retrieved_frames, *range(last + 1 - len(clip.spatial), last + 1))
    # A cluster that nothing was assigned to shows a frame of the clip, but nobody knows which.
    members = [own or tuple(range(last + 1)) for own in clip.temporal_members]
    side = round(clip.spatial.shape[1] ** 0.5)

    def entry(kind: EntryKind, frames: Sequence[int], weight: float) -> MemoryEntry:
        middle = frames[len(frames) // 2]
        picture = thumbnails[middle] if thumbnails else b""
        first_ns, last_ns = stamps_ns[frames[0]], stamps_ns[frames[-1]]
        return MemoryEntry(kind, camera, "", first_ns, last_ns, weight, picture, stamps_ns[middle])

    weights = clip.temporal_weights.tolist()
    return StarSnapshot(
        dam=torch.cat([clip.retrieved, clip.spatial]),
        dam_times=torch.tensor(shown, dtype=torch.float64),
        csm=clip.temporal,
        csm_times=torch.tensor([sum(own) / len(own) for own in members], dtype=torch.float64),
        grid=Grid(side, side),
        entries=(
            *(entry(EntryKind.DAM, (frame,), 1.0) for frame in shown),
            *(entry(EntryKind.CSM, own, weight) for own, weight in zip(members, weights, strict=True)),
        ),
        slots_seen=len(stamps_ns),
        text_slots=len(clip.temporal),
        abstract=clip.abstract,
    )
