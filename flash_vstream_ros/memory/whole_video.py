"""The published memory of a whole clip, in the form that the streaming memory gives (arXiv 2506.23825)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .compression import ClipMethods, compress_clip
from .slot import EntryKind, MemoryEntry, MemorySnapshot, Slot


def clip_memory(
    slots: Sequence[Slot],
    csm_slots: int = 60,
    dam_slots: int = 30,
    *,
    methods: ClipMethods = ClipMethods(),  # noqa: B008 (frozen)
    seed: int = 0,
    init_rows: Sequence[int] | None = None,
    reseed_rows: Sequence[int] = (),
) -> MemorySnapshot:
    """CSM by k-means over all `slots` and DAM by retrieval from them, exactly as published, or by other `methods`.

    Times are indices of slots, whatever their stamps. `init_rows` and `reseed_rows` replace the random draws of
    `compress_clip`. Raises ValueError when there is no slot, or when their shapes or grids differ.
    """
    if not slots or len({slot.grid for slot in slots}) > 1:
        raise ValueError(f"a clip needs slots of one grid, not {sorted({slot.grid for slot in slots})}")
    low = torch.stack([slot.low for slot in slots])  # [slots, low_patches, dim]
    clip = compress_clip(
        low, csm_slots, dam_slots, methods=methods, seed=seed, init_rows=init_rows, reseed_rows=reseed_rows
    )
    dam = [slots[index] for index in clip.dam_slots]
    members = [[slots[index] for index in indices] for indices in clip.members]
    return MemorySnapshot(
        dam=torch.stack([slot.detail for slot in dam]),
        dam_times=torch.tensor(clip.dam_slots, dtype=torch.float64),
        csm=clip.centroids,
        csm_times=clip.timestamps,
        grid=slots[0].grid,
        entries=(
            *(_entry(EntryKind.DAM, [slot], 1.0) for slot in dam),
            *(_entry(EntryKind.CSM, own, weight) for own, weight in zip(members, clip.weights.tolist(), strict=True)),
        ),
        slots_seen=len(slots),
        text_slots=min(len(slots), csm_slots),
    )


def _entry(kind: EntryKind, members: Sequence[Slot], weight: float) -> MemoryEntry:
    """What `members`, slots in time order, stand for; the middle one pictures them."""
    shown = members[len(members) // 2]
    return MemoryEntry(
        kind=kind,
        camera=shown.camera,
        frame_id=shown.frame_id,
        first_ns=members[0].first_ns,
        last_ns=members[-1].last_ns,
        weight=weight,
        thumbnail=shown.thumbnail,
        thumbnail_ns=shown.last_ns,
    )
