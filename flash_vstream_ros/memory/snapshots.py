"""Snapshots of the part of a Flash Memory that a scope selects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .cluster import Cluster
from .config import FlashMemoryConfig
from .contents import MemoryContents
from .exemplars import Exemplar
from .slot import MemorySnapshot
from .snapshot_entries import SnapshotEntries, csm_map, entries_of, position_times
from .time_ids import MemoryClock, memory_clock, text_slots


def snapshot_of(contents: MemoryContents, chosen: SnapshotEntries, config: FlashMemoryConfig) -> MemorySnapshot:
    """Copy of the `chosen` entries; `slots_seen` counts only the slots that these represent."""
    clusters = [cluster for cluster, _ in chosen.csm]
    slots, clock = sum(cluster.slots for cluster in clusters), memory_clock(contents.clusters.values(), config)
    maps = [csm_map(contents, each) for each in chosen.csm]
    return snapshot_from(contents, chosen.dam, clusters, maps, config, clock, slots, text_slots(clock, slots, config))


def snapshot_from(
    contents: MemoryContents,
    dam: Sequence[Exemplar],
    clusters: Sequence[Cluster],
    maps: Sequence[Tensor],
    config: FlashMemoryConfig,
    clock: MemoryClock,
    slots_seen: int,
    text_slots: int,
) -> MemorySnapshot:
    """Copy of these exemplars and clusters, with time ids of `clock`.

    `maps` are the maps of the clusters, [low_patches * dim] each, float32.
    """
    low, centroids = contents.pool.low, contents.ward.centroids
    flat = torch.stack(list(maps)) if maps else centroids[:0]
    return MemorySnapshot(
        dam=contents.pool.details(dam),
        dam_times=clock.of((exemplar.time_ns, 1) for exemplar in dam),
        csm=flat.to(low.dtype).unflatten(1, low.shape[1:]),
        csm_times=clock.of(position_times(cluster, config) for cluster in clusters),
        grid=contents.grid,
        entries=entries_of(dam, clusters),
        slots_seen=slots_seen,
        text_slots=text_slots,
        newest_ns=max((cluster.newest for cluster in contents.clusters.values()), default=(0, 0))[1],
        slot_s=config.slot_period_ns * 1e-9,
        time_scale=clock.scale,
    )


def snapshot_after(contents: MemoryContents, clock: MemoryClock, count: int) -> MemorySnapshot:
    """The newest exemplars, at most `count`, that follow the newest slot of `clock`, as DAM only."""
    newer = (exemplar for exemplar in contents.exemplars if exemplar.time_ns > clock.newest_ns)
    found = sorted(newer, key=lambda exemplar: exemplar.time_ns)
    dam = found[max(0, len(found) - count) :]
    return MemorySnapshot(
        dam=contents.pool.details(dam),
        dam_times=clock.of((exemplar.time_ns, 1) for exemplar in dam),
        csm=torch.zeros(0, 0, 0),
        csm_times=clock.of(()),
        grid=contents.grid,
        entries=entries_of(dam, ()),
        slots_seen=len(dam),
        text_slots=0,
    )
