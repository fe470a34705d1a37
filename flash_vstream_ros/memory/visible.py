"""What of a Flash Memory may be seen, and how it is shown."""

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
from .time_ids import TimeIds, clock_of, text_slots


class Portion(NamedTuple):
    """What may be seen of a cluster: all of it, in `row` of the clustering, or some of the slots held of it."""

    cluster: Cluster
    row: int | None


class Visible(NamedTuple):
    """What may be seen of what is held. A cluster in scope is seen whole; one that is in it in part shows those of its
    slots that are in and held exactly, and nothing where there are none, since its centroid would show the rest of it.
    """

    portions: list[Portion]  # by the time that is told of them; equal ones as they were born
    dam: list[Exemplar]

    @classmethod
    def of(cls, held: MemoryContents, scope: Scope, config: FlashMemoryConfig) -> Visible:
        portions = []
        for row, cluster in held.by_birth:
            if scope.covers(cluster):
                portions.append(Portion(cluster, row))
            elif inside := scope.among(held.exemplars_of(row)):
                portions.append(Portion(Cluster.of(inside), None))
        clock = clock_of(held.clusters.values(), config)
        portions.sort(key=lambda portion: clock.unscaled(*_told(portion.cluster, config)))
        return cls(portions, dam_of(held, [portion.cluster for portion in portions], scope, config))

    @property
    def clusters(self) -> list[Cluster]:
        return [portion.cluster for portion in self.portions]

    @property
    def entries(self) -> tuple[MemoryEntry, ...]:
        return _entries(self.dam, self.clusters)


def dam_of(
    held: MemoryContents, clusters: Collection[Cluster], scope: Scope, config: FlashMemoryConfig
) -> list[Exemplar]:
    """The DAM of what may be seen of `clusters`, given by time."""
    newest = sorted(scope.among(held.recent), key=lambda exemplar: -exemplar.time_ns)
    return choose_dam(newest, clusters, config.exemplars, config.dam_slots)


def snapshot_of(held: MemoryContents, scope: Scope, config: FlashMemoryConfig) -> MemorySnapshot:
    """Copies of what is visible. `slots_seen` counts the slots that are shown or averaged."""
    seen = Visible.of(held, scope, config)
    low, centroids = held.pool.low, held.ward.centroids
    shown = [
        held.pool.mean(cluster.exemplars) if row is None else centroids[row]  # [low_patches * dim], float32
        for cluster, row in seen.portions
    ]
    flat = torch.stack(shown) if shown else centroids[:0]
    slots, clock = sum(cluster.slots for cluster in seen.clusters), clock_of(held.clusters.values(), config)
    return MemorySnapshot(
        dam=held.pool.details(seen.dam),
        dam_times=clock.of((exemplar.time_ns, 1) for exemplar in seen.dam),
        csm=flat.to(low.dtype).unflatten(1, low.shape[1:]),
        csm_times=clock.of(_told(cluster, config) for cluster in seen.clusters),
        grid=held.grid,
        entries=seen.entries,
        slots_seen=slots,
        text_slots=text_slots(clock, slots, config),
        newest_ns=max((cluster.newest for cluster in held.clusters.values()), default=(0, 0))[1],
        slot_s=config.slot_period_ns * 1e-9,
        time_scale=clock.scale,
    )


def newer_than(held: MemoryContents, clock: TimeIds, count: int) -> MemorySnapshot:
    """Up to `count` of the slots held by themselves that came after the newest one of `clock`, in detail."""
    found = sorted((e for e in held.exemplars if e.time_ns > clock.newest_ns), key=lambda exemplar: exemplar.time_ns)
    dam = found[max(0, len(found) - count) :]
    return MemorySnapshot(
        dam=held.pool.details(dam),
        dam_times=clock.of((exemplar.time_ns, 1) for exemplar in dam),
        csm=torch.zeros(0, 0, 0),
        csm_times=clock.of(()),
        grid=held.grid,
        entries=_entries(dam, ()),
        slots_seen=len(dam),
        text_slots=0,
    )


def _told(cluster: Cluster, config: FlashMemoryConfig) -> tuple[int, int]:
    """When the model is told that a cluster was: a sum of times [ns], and their number."""
    return (cluster.newest[0], 1) if config.last_seen_ids else cluster.times


def _entries(dam: Iterable[Exemplar], clusters: Iterable[Cluster]) -> tuple[MemoryEntry, ...]:
    return (*(exemplar.entry() for exemplar in dam), *(cluster.entry() for cluster in clusters))
