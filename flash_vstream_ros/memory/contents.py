"""State of a Flash Memory: clusters, exemplars and their preallocated tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from .cluster import Cluster
from .config import FlashMemoryConfig
from .episodes import EpisodeTime, FirstView, Times
from .exemplars import Exemplar, ExemplarPool
from .slot import Extension, Grid, Slot
from .sublinear_ward import SublinearWard
from .ward import Merge, WardClustering

STEPS = 32  # number of slots after which a step has little influence on the typical one


class Steps(NamedTuple):
    """Squared distances of the slots of one camera to the clusters of their predecessors."""

    last: float = 0.0  # of the newest slot
    typical: float = 0.0  # moving geometric mean

    def after(self, step: float) -> Steps:
        if not (step and self.typical):
            return Steps(step, step or self.typical)
        return Steps(step, self.typical * (step / self.typical) ** (1 / STEPS))


@dataclass(eq=False)
class MemoryContents:
    """Clusters of slots, exemplars at full detail, and the tensors that store them, allocated once."""

    ward: WardClustering
    pool: ExemplarPool
    grid: Grid  # of every slot
    clusters: dict[int, Cluster] = field(default_factory=dict)  # by row of the clustering
    # The newest slots of each camera, oldest first, with the row of their cluster.
    recent: dict[Exemplar, int] = field(default_factory=dict)
    episodes: EpisodeTime = field(default_factory=EpisodeTime)
    steps: dict[str, Steps] = field(default_factory=dict)  # of each camera; hierarchical memories only

    @classmethod
    def for_slots_like(cls, slot: Slot, config: FlashMemoryConfig) -> MemoryContents:
        """Allocate empty contents with room for one camera."""
        ward = clustering_of(config, slot.low.numel(), slot.low.device)
        return cls(ward, ExemplarPool(config.exemplar_rows(1), slot.low, slot.detail), slot.grid)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras in order of first appearance."""
        return tuple(dict.fromkeys(cluster.camera for _, cluster in self.by_age))

    @property
    def by_age(self) -> list[tuple[int, Cluster]]:
        """Rows and clusters, oldest cluster first."""
        return [(row, self.clusters[row]) for row in self.ward.rows]

    @property
    def exemplars(self) -> dict[Exemplar, None]:
        """All slots stored at full detail, each once: the recent ones, then those of the clusters."""
        own = (exemplar for cluster in self.clusters.values() for exemplar in cluster.exemplars)
        return dict.fromkeys([*self.recent, *own])

    def exemplars_of(self, row: int) -> list[Exemplar]:
        """Exemplars of one cluster, then the recent slots in it."""
        recent = [exemplar for exemplar, at in self.recent.items() if at == row]
        return list(dict.fromkeys(self.clusters[row].exemplars + recent))

    @property
    def bytes(self) -> int:
        """Size of all tensors and thumbnails."""
        tensors = (*self.ward.tensors, self.pool.low, self.pool.detail)
        thumbnails = sum(len(exemplar.thumbnail) for exemplar in self.exemplars)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + thumbnails

    def merge(self, merge: Merge, exemplars: int) -> None:
        """Merge two clusters whose rows were merged already. Keeps the `exemplars` nearest to the new centroid."""
        kept = self.clusters[merge.kept]
        kept.absorb(self.clusters.pop(merge.absorbed))
        kept.exemplars = self.pool.nearest(kept.exemplars, self.ward.centroids[merge.kept], exemplars)
        self.recent = {e: merge.kept if row == merge.absorbed else row for e, row in self.recent.items()}

    def row_of_newest(self, camera: str) -> int | None:
        """Row of the cluster with the newest slot of `camera`; None if the camera has no slot."""
        own = ((cluster.newest, row) for row, cluster in self.clusters.items() if cluster.camera == camera)
        return max(own, default=(None, None))[1]

    def extend(self, camera: str, extension: Extension) -> None:
        """Extend the newest slot of a camera in time."""
        row = self.row_of_newest(camera)
        assert row is not None
        cluster = self.clusters[row]
        before = cluster.times
        replaced = {e: e.extended(extension) for e in self.exemplars_of(row) if e.time_ns == cluster.newest[0]}
        self.recent = {replaced.get(exemplar, exemplar): at for exemplar, at in self.recent.items()}
        cluster.extend(extension, replaced)
        self.ward.add_weight(row, extension.slots)
        if self.episodes.squared_per_slot:
            times = self._times(self.ward.capacity + 1)
            self.ward.add_to_row(row, self.episodes.distance_change(before, cluster.times, times))

    def add_time(self, distances: Sequence[float], times: Times) -> list[float]:
        """Add the time coordinate to the distances in appearance [rows + 1] of an item recorded at `times`."""
        return self.episodes.add_time(distances, times, self._times(len(distances) - 1))

    def set_time_reference(self, first: FirstView, config: FlashMemoryConfig, newest_ns: int = 0) -> None:
        """Change the reference view or the weight of the time coordinate, and update all distances.

        `newest_ns` is the time of the slot that will be inserted next; 0: none.
        """
        newest_ns = max(newest_ns, *(cluster.newest[0] for cluster in self.clusters.values()), 0)
        before, self.episodes = self.episodes, EpisodeTime.of(first, config, newest_ns)
        if before != self.episodes and (before.squared_per_slot or self.episodes.squared_per_slot):
            times = self._times(self.ward.capacity + 1)
            self.ward.add_to_distances(self.episodes.time_distances(times) - before.time_distances(times))

    def _times(self, rows: int) -> list[Times | None]:
        return [self.clusters[row].times if row in self.clusters else None for row in range(rows)]


def clustering_of(config: FlashMemoryConfig, features: int, device: torch.device) -> WardClustering:
    """An empty clustering for the retention of `config`."""
    kind = SublinearWard if config.hierarchical else WardClustering
    return kind(config.stored_clusters, features, device)
