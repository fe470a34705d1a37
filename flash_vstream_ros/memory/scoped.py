"""The stored clusters that a scope selects, as a whole or in part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .cluster import Cluster
from .contents import MemoryContents
from .scope import Scope
from .sublinear_ward import SublinearWard


class ScopedCluster(NamedTuple):
    """The part of a stored cluster that lies in scope."""

    cluster: Cluster
    row: int | None  # of the stored cluster if it lies in scope as a whole; None: only its exemplars in scope


def scoped_clusters(contents: MemoryContents, scope: Scope) -> list[ScopedCluster]:
    """The clusters in scope, oldest first.

    If only a part of a cluster lies in scope, its exemplars in scope are selected, but not its centroid, which also
    contains slots outside the scope.
    """
    selected = []
    for row, cluster in contents.by_age:
        if scope.covers(cluster):
            selected.append(ScopedCluster(cluster, row))
        elif inside := scope.select(contents.exemplars_of(row)):
            selected.append(ScopedCluster(Cluster.of(inside), None))
    return selected


def feature_map(contents: MemoryContents, scoped: ScopedCluster) -> Tensor:
    """Mean low-resolution map [low_patches * dim] of a scoped cluster, float32."""
    cluster, row = scoped
    return contents.pool.mean(cluster.exemplars) if row is None else contents.ward.centroids[row]


def distances_between(contents: MemoryContents, scoped: Sequence[ScopedCluster]) -> np.ndarray:
    """Squared distances [clusters, clusters] between scoped clusters, including time as in the clustering."""
    rows = [each.row for each in scoped if each.row is not None]
    whole = [place for place, each in enumerate(scoped) if each.row is not None]
    squared = np.zeros((len(scoped), len(scoped)))
    squared[np.ix_(whole, whole)] = contents.ward.squared_distances(rows)
    parts = [place for place, each in enumerate(scoped) if each.row is None]
    if not parts:
        return squared
    maps = torch.stack([feature_map(contents, scoped[place]) for place in parts])
    for item, place in zip(maps, parts, strict=True):
        times = scoped[place].cluster.times
        to_rows = contents.add_time(contents.ward.distances(item).tolist(), times)
        squared[place, whole] = squared[whole, place] = [to_rows[row] for row in rows]
        to_parts = [*(maps - item).square().sum(1).tolist(), 0.0]
        others = [scoped[other].cluster.times for other in parts]
        squared[place, parts] = contents.episodes.add_time(to_parts, times, others)[:-1]
    return squared


def is_transient(contents: MemoryContents, scoped: ScopedCluster) -> bool:
    """Returns True for a stored cluster whose slots are all transient; of a part this is not known."""
    ward = contents.ward
    return scoped.row is not None and isinstance(ward, SublinearWard) and ward.is_transient(scoped.row)
