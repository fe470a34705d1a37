"""Forgetting a part of a Flash Memory.

A centroid is a mean, and single slots cannot be removed from it. So each cluster that may contain a slot in scope is
recomputed from its exemplars outside the scope. A cluster without such exemplars is removed.
"""

from __future__ import annotations

from collections.abc import Sequence

from .cluster import Cluster
from .config import FlashMemoryConfig
from .contents import MemoryContents
from .episodes import FirstView
from .exemplars import Exemplar
from .interface import Forgotten
from .scope import Scope


def forget(contents: MemoryContents, scope: Scope, config: FlashMemoryConfig) -> Forgotten:
    """Remove everything derived from `scope`: tensors, thumbnails and stamps. Free rows are overwritten."""
    before = list(contents.clusters.items())
    for row, cluster in before:
        if cluster.may_touch(scope):
            outside = [exemplar for exemplar in contents.exemplars_of(row) if not scope.touches(exemplar)]
            if len(outside) < cluster.slots:
                _rebuild(contents, row, outside, config.stored_exemplars)
    contents.pool.free_all_except(contents.exemplars)
    contents.steps = {camera: step for camera, step in contents.steps.items() if not scope.has_camera(camera)}
    if scope.touches(contents.episodes.first):
        contents.set_time_reference(_first_view(contents), config)
    contents.pool.zero_free_rows()
    contents.ward.zero_free_rows()
    after = [contents.clusters.get(row) for row, _ in before]
    lost = sum(cluster.slots for _, cluster in before) - sum(cluster.slots for cluster in after if cluster)
    rebuilt = sum(now is not None and now is not then for now, (_, then) in zip(after, before, strict=True))
    return Forgotten(lost, after.count(None), rebuilt)


def _rebuild(contents: MemoryContents, row: int, slots: Sequence[Exemplar], exemplars: int) -> None:
    """Recompute the cluster in `row` from `slots`, a part of its exemplars; remove it if `slots` is empty."""
    contents.recent = {e: at for e, at in contents.recent.items() if at != row or e in slots}
    if not slots:
        contents.ward.remove(row)
        del contents.clusters[row]
        return
    mean, cluster = contents.pool.mean(slots), Cluster.of(slots)
    distances = contents.add_time(contents.ward.distances(mean).tolist(), cluster.times)
    contents.ward.replace(row, mean, len(slots), distances)
    cluster.exemplars = contents.pool.nearest(slots, contents.ward.centroids[row], exemplars)
    contents.clusters[row] = cluster


def _first_view(contents: MemoryContents) -> FirstView:
    """The earliest exemplar, as the new reference of the time coordinate."""
    earliest = min(contents.exemplars, key=lambda exemplar: exemplar.time_ns, default=None)
    if earliest is None:
        return FirstView()
    return FirstView.of(earliest, float(contents.pool.low[earliest.row].float().square().sum()))
