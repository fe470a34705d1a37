"""How a Flash Memory forgets a part of what was seen.

A centroid is a sum over slots that cannot be told apart again. So a cluster that may hold a slot of that part is made
anew of those of its slots that are held exactly and lie outside; it goes when there are none.
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


def forget(held: MemoryContents, scope: Scope, config: FlashMemoryConfig) -> Forgotten:
    """Let nothing that is held stem from `scope`: no tensor, thumbnail or stamp. Memory not in use is overwritten."""
    before = list(held.clusters.items())
    for row, cluster in before:
        if cluster.may_reach(scope):
            left = [exemplar for exemplar in held.exemplars_of(row) if not scope.touches(exemplar)]
            if len(left) < cluster.slots:
                _make_anew(held, row, left, config.exemplars)
    held.pool.keep_only(held.exemplars)
    if scope.touches(held.episodes.first):
        held.measure_from(_first_view(held), config)
    held.pool.wipe_free()
    held.ward.wipe_free()
    after = [held.clusters.get(row) for row, _ in before]
    lost = sum(cluster.slots for _, cluster in before) - sum(cluster.slots for cluster in after if cluster)
    rebuilt = sum(now is not None and now is not then for now, (_, then) in zip(after, before, strict=True))
    return Forgotten(lost, after.count(None), rebuilt)


def _make_anew(held: MemoryContents, row: int, slots: Sequence[Exemplar], exemplars: int) -> None:
    """Let a cluster be that of `slots` alone, some of those held of it; of none: free its row."""
    held.recent = {e: at for e, at in held.recent.items() if at != row or e in slots}
    if not slots:
        held.ward.remove(row)
        del held.clusters[row]
        return
    mean, cluster = held.pool.mean(slots), Cluster.of(slots)
    held.ward.replace(row, mean, len(slots), held.apart(held.ward.distances(mean).tolist(), cluster.times))
    cluster.exemplars = held.pool.nearest(slots, held.ward.centroids[row], exemplars)
    held.clusters[row] = cluster


def _first_view(held: MemoryContents) -> FirstView:
    """The earliest of the slots that are held by themselves."""
    earliest = min(held.exemplars, key=lambda exemplar: exemplar.time_ns, default=None)
    if earliest is None:
        return FirstView()
    return FirstView.of(earliest, float(held.pool.low[earliest.row].float().square().sum()))
