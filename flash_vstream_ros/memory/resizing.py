"""What a memory holds, in tensors of other sizes: merged down where it is too much."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from .exemplars import Exemplar, ExemplarPool
from .ward import Merge, WardClustering

if TYPE_CHECKING:
    from .flash_memory import FlashMemoryConfig, _Cluster


class Moved(NamedTuple):
    """What takes the place of the tensors and clusters that were moved, and of each exemplar that is still held."""

    ward: WardClustering
    pool: ExemplarPool
    clusters: dict[int, _Cluster]  # by row of the clustering
    exemplars: dict[Exemplar, Exemplar]


def merge_clusters(
    clusters: dict[int, _Cluster], merge: Merge, ward: WardClustering, pool: ExemplarPool, exemplars: int
) -> None:
    """Do with `clusters` what `ward` did with its rows, keeping the `exemplars` nearest to the new centroid."""
    kept = clusters[merge.kept]
    kept.absorb(clusters.pop(merge.absorbed))
    kept.exemplars = pool.nearest(kept.exemplars, ward.centroids[merge.kept], exemplars)


def move(
    ward: WardClustering,
    pool: ExemplarPool,
    clusters: dict[int, _Cluster],
    recent: Iterable[Exemplar],
    config: FlashMemoryConfig,
    pool_rows: int,
) -> Moved:
    """Everything in new tensors of the sizes of `config`, which are allocated before anything else is done.

    Of the exemplars, those of `recent` and of the clusters stay. What is given is used up. Raises what torch raises
    when there is no room, and ValueError when there are fewer clusters than cameras; then it is as it was.
    """
    new_ward = WardClustering(config.csm_slots, ward.centroids.shape[1], ward.centroids.device)
    new_pool = ExemplarPool(pool_rows, pool.low[0], pool.detail[0])
    for merge in ward.reduce(config.csm_slots):
        merge_clusters(clusters, merge, ward, pool, config.exemplars)
    for cluster in clusters.values():
        del cluster.exemplars[config.exemplars :]
    held = dict.fromkeys([*recent, *(exemplar for cluster in clusters.values() for exemplar in cluster.exemplars)])
    exemplars = new_pool.take_over(held, pool)
    for cluster in clusters.values():
        cluster.exemplars = [exemplars[exemplar] for exemplar in cluster.exemplars]
    rows = new_ward.take_over(ward)
    return Moved(new_ward, new_pool, {rows[row]: cluster for row, cluster in clusters.items()}, exemplars)
