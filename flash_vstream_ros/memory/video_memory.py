"""The published Flash Memory of a whole video (arXiv 2506.23825), as a snapshot like those of the streaming memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .region import Region
from .slot import EntryKind, MemoryEntry, MemorySnapshot, Slot
from .video_compression import CompressionMethods, compress_video


def video_memory(
    slots: Sequence[Slot],
    csm_slots: int = 60,
    dam_slots: int = 30,
    *,
    methods: CompressionMethods = CompressionMethods(),  # noqa: B008 (frozen)
    seed: int = 0,
    init_rows: Sequence[int] | None = None,
    reseed_rows: Sequence[int] = (),
) -> MemorySnapshot:
    """Compute CSM by k-means over all `slots` and DAM by retrieval, exactly as published, or by other `methods`.

    Times are slot indices, not stamps. `init_rows` and `reseed_rows` are as in `ordered_kmeans`. Raises ValueError if
    there is no slot, or if shapes or grids differ.
    """
    if not slots or len({slot.grid for slot in slots}) > 1:
        raise ValueError(f"a video needs slots of one grid, not {sorted({slot.grid for slot in slots})}")
    low = torch.stack([slot.low for slot in slots])  # [slots, low_patches, dim]
    compressed = compress_video(
        low, csm_slots, dam_slots, methods=methods, seed=seed, init_rows=init_rows, reseed_rows=reseed_rows
    )
    dam = [slots[index] for index in compressed.dam_slots]
    weights = compressed.weights.tolist()
    members = [[slots[index] for index in indices] for indices in compressed.members]
    return MemorySnapshot(
        dam=torch.stack([slot.detail for slot in dam]),
        dam_times=torch.tensor(compressed.dam_slots, dtype=torch.float64),
        csm=compressed.centroids,
        csm_times=compressed.timestamps,
        grid=slots[0].grid,
        entries=(
            *(_entry(EntryKind.DAM, [slot], 1.0) for slot in dam),
            *(_entry(EntryKind.CSM, own, weight) for own, weight in zip(members, weights, strict=True)),
        ),
        slots_seen=len(slots),
        text_slots=min(len(slots), csm_slots),
    )


def _entry(kind: EntryKind, members: Sequence[Slot], weight: float) -> MemoryEntry:
    """Describe `members`, slots ordered by time; the thumbnail is that of the middle one."""
    middle = members[len(members) // 2]
    return MemoryEntry(
        kind=kind,
        camera=middle.camera,
        frame_id=middle.frame_id,
        first_ns=members[0].first_ns,
        last_ns=members[-1].last_ns,
        weight=weight,
        thumbnail=middle.thumbnail,
        thumbnail_ns=middle.last_ns,
        pose=middle.pose,
        region=Region.union(slot.region for slot in members),
    )
