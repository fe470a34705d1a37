"""The entries that a snapshot shows: all stored clusters, or groups of similar ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .cluster import Cluster
from .config import FlashMemoryConfig
from .contents import MemoryContents
from .dam import choose_dam, choose_key_frames
from .exemplars import Exemplar
from .grouping import group_distances, reduce_to_groups
from .scope import Scope
from .scoped import ScopedCluster, distances_between, feature_map, scoped_clusters
from .slot import MemoryEntry
from .sublinear_ward import SublinearWard
from .time_ids import memory_clock

# Exponent of weights in the cost of merging stored clusters into groups. A low exponent lets a rare event keep an entry
# of its own, while places that look alike share one.
GROUPING_EXPONENT = 0.2


class ShownCluster(NamedTuple):
    """One CSM entry: its scoped clusters (`parts`), and their union (`cluster`)."""

    cluster: Cluster
    parts: tuple[ScopedCluster, ...]  # oldest first


class ShownMemory(NamedTuple):
    """The CSM entries and DAM exemplars that a scope selects. Each slot in scope is in exactly one cluster."""

    clusters: list[ShownCluster]  # ordered by time id, then by age
    dam: list[Exemplar]

    @classmethod
    def of(cls, contents: MemoryContents, scope: Scope, config: FlashMemoryConfig) -> ShownMemory:
        scoped = scoped_clusters(contents, scope)
        newest = sorted(scope.select(contents.recent), key=lambda exemplar: -exemplar.time_ns)
        clock = memory_clock(contents.clusters.values(), config)

        def by_time(shown: ShownCluster) -> float:
            return clock.unscaled(*position_times(shown.cluster, config))

        if not config.hierarchical:
            clusters = sorted((ShownCluster(each.cluster, (each,)) for each in scoped), key=by_time)
            ranked = [shown.cluster for shown in clusters]
            return cls(clusters, choose_dam(newest, ranked, config.exemplars, config.dam_slots))
        squared = distances_between(contents, scoped)
        groups, distances = _groups(scoped, squared, config.csm_slots)
        clusters = sorted(groups, key=by_time)
        rare = _worst_shown_first(contents, scoped, distances)
        return cls(clusters, choose_key_frames(newest, [shown.cluster for shown in clusters], rare, config.dam_slots))

    @property
    def entries(self) -> tuple[MemoryEntry, ...]:
        return entries_of(self.dam, (shown.cluster for shown in self.clusters))


def shown_map(contents: MemoryContents, shown: ShownCluster) -> Tensor:
    """Weighted mean [low_patches * dim] of the maps of the cluster's parts, float32."""
    maps = [feature_map(contents, part) for part in shown.parts]
    if len(maps) == 1:
        return maps[0]
    mean = torch.zeros_like(maps[0])
    for part, each in zip(shown.parts, maps, strict=True):
        mean.add_(each, alpha=part.cluster.slots / shown.cluster.slots)
    return mean


def position_times(cluster: Cluster, config: FlashMemoryConfig) -> tuple[int, int]:
    """Sum [ns] and number of the times whose mean is the time id of a cluster."""
    return (cluster.newest[0], 1) if config.last_seen_ids else cluster.times


def entries_of(dam: Iterable[Exemplar], clusters: Iterable[Cluster]) -> tuple[MemoryEntry, ...]:
    return (*(exemplar.entry() for exemplar in dam), *(cluster.entry() for cluster in clusters))


def _groups(scoped: Sequence[ScopedCluster], squared: np.ndarray, count: int) -> tuple[list[ShownCluster], np.ndarray]:
    """`scoped` in at most `count` groups, and the squared distance of each cluster to the mean of its group.

    In a group, the exemplars of the cluster nearest to the mean come first.
    """
    if not scoped:
        return [], np.zeros(0)
    weights = np.array([each.cluster.slots for each in scoped], dtype=float)
    labels = reduce_to_groups(squared, weights, [each.cluster.camera for each in scoped], count, GROUPING_EXPONENT)
    nearness = group_distances(squared, weights, labels)
    groups = []
    for label in range(labels.max() + 1):
        places = np.flatnonzero(labels == label).tolist()
        nearest = sorted(places, key=lambda place: (nearness[place, label], place))
        cluster = Cluster.union_of([scoped[place].cluster for place in nearest])
        groups.append(ShownCluster(cluster, tuple(scoped[place] for place in places)))
    return groups, nearness[np.arange(len(scoped)), labels]


def _worst_shown_first(
    contents: MemoryContents, scoped: Sequence[ScopedCluster], distances: np.ndarray
) -> list[Exemplar]:
    """Best exemplar of each light and stable cluster; clusters furthest from the mean of their group first.

    `distances` [clusters] to that mean are squared. A cluster that is a group alone has distance 0 and comes last.
    """
    ward = contents.ward
    assert isinstance(ward, SublinearWard)
    median = float(np.median([each.cluster.slots for each in scoped])) if scoped else 0.0
    light = [
        place
        for place, (cluster, row) in enumerate(scoped)
        if cluster.slots <= median and not (row is not None and ward.is_transient(row))
    ]
    return [scoped[place].cluster.exemplars[0] for place in sorted(light, key=lambda place: -distances[place])]
