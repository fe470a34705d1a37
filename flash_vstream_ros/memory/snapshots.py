"""Snapshots of the part of a Flash Memory that a scope selects."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import torch

from .cluster import Cluster
from .config import FlashMemoryConfig
from .contents import MemoryContents
from .dam import choose_dam
from .exemplars import Exemplar
from .scope import Scope
from .slot import MemoryEntry, MemorySnapshot
from .time_ids import MemoryClock, memory_clock, text_slots


class ScopedCluster(NamedTuple):
    """The part of a cluster that lies in scope."""

    cluster: Cluster
    row: int | None  # of its centroid; None: the cluster of those of its exemplars that lie in scope


class ScopedMemory(NamedTuple):
    """The clusters and DAM exemplars that a scope selects.

    A cluster that lies in scope as a whole is selected whole. Of one that lies in scope in part only its exemplars in
    scope are selected, since its centroid is derived from slots outside.
    """

    clusters: list[ScopedCluster]  # ordered by the time id of each; ties by age
    dam: list[Exemplar]

    @classmethod
    def of(cls, contents: MemoryContents, scope: Scope, config: FlashMemoryConfig) -> ScopedMemory:
        selected = []
        for row, cluster in contents.by_age:
            if scope.covers(cluster):
                selected.append(ScopedCluster(cluster, row))
            elif inside := scope.select(contents.exemplars_of(row)):
                selected.append(ScopedCluster(Cluster.of(inside), None))
        clock = memory_clock(contents.clusters.values(), config)
        selected.sort(key=lambda scoped: clock.unscaled(*_position_times(scoped.cluster, config)))
        return cls(selected, choose_scoped_dam(contents, [scoped.cluster for scoped in selected], scope, config))

    @property
    def entries(self) -> tuple[MemoryEntry, ...]:
        return _entries(self.dam, (scoped.cluster for scoped in self.clusters))


def choose_scoped_dam(
    contents: MemoryContents, clusters: Collection[Cluster], scope: Scope, config: FlashMemoryConfig
) -> list[Exemplar]:
    """The DAM exemplars of `clusters`, which are ordered by time."""
    newest = sorted(scope.select(contents.recent), key=lambda exemplar: -exemplar.time_ns)
    return choose_dam(newest, clusters, config.exemplars, config.dam_slots)


def snapshot_of(contents: MemoryContents, scope: Scope, config: FlashMemoryConfig) -> MemorySnapshot:
    """Copy of the part in scope; `slots_seen` counts the slots that it represents."""
    scoped = ScopedMemory.of(contents, scope, config)
    clusters = [cluster for cluster, _ in scoped.clusters]
    low, centroids = contents.pool.low, contents.ward.centroids
    maps = [
        contents.pool.mean(cluster.exemplars) if row is None else centroids[row]  # [low_patches * dim], float32
        for cluster, row in scoped.clusters
    ]
    flat = torch.stack(maps) if maps else centroids[:0]
    slots, clock = sum(cluster.slots for cluster in clusters), memory_clock(contents.clusters.values(), config)
    return MemorySnapshot(
        dam=contents.pool.details(scoped.dam),
        dam_times=clock.of((exemplar.time_ns, 1) for exemplar in scoped.dam),
        csm=flat.to(low.dtype).unflatten(1, low.shape[1:]),
        csm_times=clock.of(_position_times(cluster, config) for cluster in clusters),
        grid=contents.grid,
        entries=scoped.entries,
        slots_seen=slots,
        text_slots=text_slots(clock, slots, config),
        newest_ns=max((cluster.newest for cluster in contents.clusters.values()), default=(0, 0))[1],
        slot_s=config.slot_period_ns * 1e-9,
        time_scale=clock.scale,
    )


def snapshot_after(contents: MemoryContents, clock: MemoryClock, count: int) -> MemorySnapshot:
    """The newest exemplars after the newest slot of `clock`, at most `count`, as DAM alone."""
    newer = (exemplar for exemplar in contents.exemplars if exemplar.time_ns > clock.newest_ns)
    found = sorted(newer, key=lambda exemplar: exemplar.time_ns)
    dam = found[max(0, len(found) - count) :]
    return MemorySnapshot(
        dam=contents.pool.details(dam),
        dam_times=clock.of((exemplar.time_ns, 1) for exemplar in dam),
        csm=torch.zeros(0, 0, 0),
        csm_times=clock.of(()),
        grid=contents.grid,
        entries=_entries(dam, ()),
        slots_seen=len(dam),
        text_slots=0,
    )


def _position_times(cluster: Cluster, config: FlashMemoryConfig) -> tuple[int, int]:
    """Times whose mean is the time id of a cluster: their sum [ns], and their number."""
    return (cluster.newest[0], 1) if config.last_seen_ids else cluster.times


def _entries(dam: Iterable[Exemplar], clusters: Iterable[Cluster]) -> tuple[MemoryEntry, ...]:
    return (*(exemplar.entry() for exemplar in dam), *(cluster.entry() for cluster in clusters))
