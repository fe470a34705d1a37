"""Chooses the entries of a snapshot: key frames, and all stored clusters or groups of similar ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .cluster import Cluster
from .config import BY_AGE, FlashMemoryConfig
from .contents import MemoryContents
from .dam import choose_dam, choose_key_frames
from .exemplars import Exemplar
from .grouping import group_distances, reduce_to_groups
from .scope import Scope
from .scoped import ScopedCluster, distances_between, feature_map, is_transient, scoped_clusters
from .slot import MemoryEntry
from .sublinear_ward import TRANSIENT_MASS
from .time_ids import memory_clock

GROUPING_EXPONENT = 0.2  # of weights in the cost of a group by weight: the lower, the more rare events have an entry
LINEAR_EPISODES = 0.5  # ages up to this count linearly in groups by age


class CsmEntry(NamedTuple):
    """One CSM entry: its scoped clusters (`parts`), and their union (`cluster`)."""

    cluster: Cluster
    parts: tuple[ScopedCluster, ...]  # oldest first


class SnapshotEntries(NamedTuple):
    """The CSM entries and DAM exemplars of a snapshot. Each slot in scope is in exactly one CSM entry."""

    csm: list[CsmEntry]  # ordered by time id, then by age
    dam: list[Exemplar]

    @classmethod
    def of(cls, contents: MemoryContents, scope: Scope, config: FlashMemoryConfig) -> SnapshotEntries:
        """Choose the entries of a snapshot of the part in `scope`."""
        scoped = scoped_clusters(contents, scope)
        newest = sorted(scope.select(contents.recent), key=lambda exemplar: -exemplar.time_ns)
        clock = memory_clock(contents.clusters.values(), config)

        def by_time(entry: CsmEntry) -> float:
            return clock.unscaled(*position_times(entry.cluster, config))

        if not config.hierarchical:
            clusters = sorted((CsmEntry(each.cluster, (each,)) for each in scoped), key=by_time)
            ranked = [entry.cluster for entry in clusters]
            return cls(clusters, choose_dam(newest, ranked, config.exemplars, config.dam_slots))
        squared = distances_between(contents, scoped)
        groups, distances = _groups(contents, scoped, squared, config)
        clusters = sorted(groups, key=by_time)
        rare = _least_represented_first(contents, scoped, distances)
        return cls(clusters, choose_key_frames(newest, [entry.cluster for entry in clusters], rare, config.dam_slots))

    @property
    def entries(self) -> tuple[MemoryEntry, ...]:
        return entries_of(self.dam, (entry.cluster for entry in self.csm))


def csm_map(contents: MemoryContents, entry: CsmEntry) -> Tensor:
    """Weighted mean [low_patches * dim] of the maps of the entry's parts, float32."""
    maps = [feature_map(contents, part) for part in entry.parts]
    if len(maps) == 1:
        return maps[0]
    mean = torch.zeros_like(maps[0])
    for part, each in zip(entry.parts, maps, strict=True):
        mean.add_(each, alpha=part.cluster.slots / entry.cluster.slots)
    return mean


def position_times(cluster: Cluster, config: FlashMemoryConfig) -> tuple[int, int]:
    """Sum [ns] and number of the times whose mean is the time id of a cluster."""
    return (cluster.newest[0], 1) if config.last_seen_ids else cluster.times


def entries_of(dam: Iterable[Exemplar], clusters: Iterable[Cluster]) -> tuple[MemoryEntry, ...]:
    return (*(exemplar.entry() for exemplar in dam), *(cluster.entry() for cluster in clusters))


def _groups(
    contents: MemoryContents, scoped: Sequence[ScopedCluster], squared: np.ndarray, config: FlashMemoryConfig
) -> tuple[list[CsmEntry], np.ndarray]:
    """`scoped` in at most `csm_slots` groups, and the squared distance of each cluster to the mean of its group.

    In a group, the exemplars of the cluster nearest to the mean come first.
    """
    if not scoped:
        return [], np.zeros(0)
    weights = np.array([each.cluster.slots for each in scoped], dtype=float)
    cameras, masses = [each.cluster.camera for each in scoped], None
    if config.grouping == BY_AGE:
        newest_ns = max(each.cluster.newest[0] for each in scoped)
        linear_slots = LINEAR_EPISODES * config.episode_slots
        squared = contents.episodes.by_age(squared, [each.cluster.times for each in scoped], newest_ns, linear_slots)
        masses = np.array([TRANSIENT_MASS if is_transient(contents, each) else 1.0 for each in scoped])
    labels = reduce_to_groups(squared, weights, cameras, config.csm_slots, GROUPING_EXPONENT, masses)
    nearness = group_distances(squared, weights, labels)
    groups = []
    for label in range(labels.max() + 1):
        places = np.flatnonzero(labels == label).tolist()
        nearest = sorted(places, key=lambda place: (nearness[place, label], place))
        cluster = Cluster.union_of([scoped[place].cluster for place in nearest])
        groups.append(CsmEntry(cluster, tuple(scoped[place] for place in places)))
    return groups, nearness[np.arange(len(scoped)), labels]


def _least_represented_first(
    contents: MemoryContents, scoped: Sequence[ScopedCluster], distances: np.ndarray
) -> list[Exemplar]:
    """Best exemplar of each light and stable cluster, the cluster that is furthest from the mean of its group first.

    `distances` [clusters] to the mean of the group are squared. A cluster that is a group alone has distance 0 and
    comes last.
    """
    median = float(np.median([each.cluster.slots for each in scoped])) if scoped else 0.0
    light = [
        place for place, each in enumerate(scoped) if each.cluster.slots <= median and not is_transient(contents, each)
    ]
    return [scoped[place].cluster.exemplars[0] for place in sorted(light, key=lambda place: -distances[place])]
