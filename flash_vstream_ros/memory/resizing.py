"""A memory of other sizes: its clusters and exemplars in new tensors, merged down where there are too many."""

from __future__ import annotations

from typing import NamedTuple

from .cluster import Cluster, held
from .config import FlashMemoryConfig
from .exemplars import Exemplar, ExemplarPool, newest_of_each
from .ward import Merge, WardClustering


class Holdings(NamedTuple):
    """What a memory holds, and where."""

    ward: WardClustering
    pool: ExemplarPool
    clusters: dict[int, Cluster]  # by row of the clustering
    recent: dict[Exemplar, int]  # with the row of its cluster, oldest first

    def merged(self, merge: Merge, exemplars: int) -> dict[Exemplar, int]:
        """Do with the clusters what the clustering did with its rows, keeping the `exemplars` nearest ones.

        Returns what `recent` is from then on.
        """
        kept = self.clusters[merge.kept]
        kept.absorb(self.clusters.pop(merge.absorbed))
        kept.exemplars = self.pool.nearest(kept.exemplars, self.ward.centroids[merge.kept], exemplars)
        return {e: merge.kept if row == merge.absorbed else row for e, row in self.recent.items()}

    def room(self, config: FlashMemoryConfig) -> tuple[WardClustering, ExemplarPool]:
        """Empty tensors of the sizes of `config`. Raises what torch raises when there is no room."""
        cameras = {cluster.camera for cluster in self.clusters.values()}
        return (
            WardClustering(config.csm_slots, self.ward.centroids.shape[1], self.ward.centroids.device),
            ExemplarPool(config.exemplar_rows(len(cameras)), self.pool.low[0], self.pool.detail[0]),
        )

    def moved(self, ward: WardClustering, pool: ExemplarPool, config: FlashMemoryConfig) -> Holdings:
        """The same in `room`. What is too much is merged by the rule of the stream, or falls out.

        The old holdings are used up. Raises ValueError when there are fewer clusters than cameras.
        """
        left = self
        for merge in self.ward.reduce(config.csm_slots):
            left = left._replace(recent=left.merged(merge, config.exemplars))
        for cluster in left.clusters.values():
            del cluster.exemplars[config.exemplars :]
        recent = newest_of_each(left.recent, config.recent_slots)
        exemplars = pool.take_over(held(left.clusters.values(), recent), self.pool)
        rows = ward.take_over(self.ward)
        for cluster in left.clusters.values():
            cluster.exemplars = [exemplars[exemplar] for exemplar in cluster.exemplars]
        return Holdings(
            ward,
            pool,
            {rows[row]: cluster for row, cluster in left.clusters.items()},
            {exemplars[exemplar]: rows[row] for exemplar, row in recent.items()},
        )
