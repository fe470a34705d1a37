"""A memory of other sizes: its clusters and exemplars in new tensors, merged down where there are too many."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from .exemplars import Exemplar, ExemplarPool
from .ward import Merge, WardClustering

if TYPE_CHECKING:
    from .flash_memory import FlashMemoryConfig, _Cluster


class Holdings(NamedTuple):
    """What a memory holds, and where."""

    ward: WardClustering
    pool: ExemplarPool
    clusters: dict[int, _Cluster]  # by row of the clustering
    recent: deque[Exemplar]

    @property
    def exemplars(self) -> set[Exemplar]:
        return {*self.recent, *(exemplar for cluster in self.clusters.values() for exemplar in cluster.exemplars)}

    def merge(self, merge: Merge, exemplars: int) -> None:
        """Do with the clusters what the clustering did with its rows, keeping the `exemplars` nearest ones."""
        kept = self.clusters[merge.kept]
        kept.absorb(self.clusters.pop(merge.absorbed))
        kept.exemplars = self.pool.nearest(kept.exemplars, self.ward.centroids[merge.kept], exemplars)

    def moved(self, config: FlashMemoryConfig) -> Holdings:
        """The same in new tensors of the sizes of `config`, which are allocated before anything else is done.

        What is too much is merged by the rule of the stream, or falls out. The old holdings are used up. Raises what
        torch raises when there is no room, and ValueError when there are fewer clusters than cameras.
        """
        ward = WardClustering(config.csm_slots, self.ward.centroids.shape[1], self.ward.centroids.device)
        pool = ExemplarPool(config.exemplar_rows, self.pool.low[0], self.pool.detail[0])
        for merge in self.ward.reduce(config.csm_slots):
            self.merge(merge, config.exemplars)
        for cluster in self.clusters.values():
            del cluster.exemplars[config.exemplars :]
        left = self._replace(recent=deque(self.recent, maxlen=config.recent_slots))
        exemplars = pool.take_over(left.exemplars, self.pool)
        rows = ward.take_over(self.ward)
        for cluster in self.clusters.values():
            cluster.exemplars = [exemplars[exemplar] for exemplar in cluster.exemplars]
        return Holdings(
            ward,
            pool,
            {rows[row]: cluster for row, cluster in self.clusters.items()},
            deque((exemplars[exemplar] for exemplar in left.recent), maxlen=config.recent_slots),
        )
