"""What a Flash Memory holds, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .cluster import Cluster
from .config import FlashMemoryConfig
from .episodes import EpisodeTime, FirstView, Times
from .exemplars import Exemplar, ExemplarPool
from .slot import Extension, Grid, Slot
from .ward import Merge, WardClustering


@dataclass(eq=False)
class MemoryContents:
    """Clusters of slots and, at full detail, some of their slots; the tensors that they are in, allocated at once."""

    ward: WardClustering
    pool: ExemplarPool
    grid: Grid  # of every slot
    clusters: dict[int, Cluster] = field(default_factory=dict)  # by row of the clustering
    recent: dict[Exemplar, int] = field(default_factory=dict)  # newest of each camera, oldest first, with those rows
    episodes: EpisodeTime = field(default_factory=EpisodeTime)

    @classmethod
    def for_slots_like(cls, slot: Slot, config: FlashMemoryConfig) -> MemoryContents:
        """Empty ones, with room for one camera."""
        ward = WardClustering(config.csm_slots, slot.low.numel(), slot.low.device)
        return cls(ward, ExemplarPool(config.exemplar_rows(1), slot.low, slot.detail), slot.grid)

    @property
    def cameras(self) -> tuple[str, ...]:
        """In order of appearance."""
        return tuple(dict.fromkeys(cluster.camera for _, cluster in self.by_birth))

    @property
    def by_birth(self) -> list[tuple[int, Cluster]]:
        """Rows and clusters, first born first."""
        return [(row, self.clusters[row]) for row in self.ward.rows]

    @property
    def exemplars(self) -> dict[Exemplar, None]:
        """All slots that are held at full detail, each once: the newest ones, and those of the clusters."""
        own = (exemplar for cluster in self.clusters.values() for exemplar in cluster.exemplars)
        return dict.fromkeys([*self.recent, *own])

    def exemplars_of(self, row: int) -> list[Exemplar]:
        """Those of one cluster: its own, then those of the newest that it took in."""
        recent = [exemplar for exemplar, at in self.recent.items() if at == row]
        return list(dict.fromkeys(self.clusters[row].exemplars + recent))

    @property
    def bytes(self) -> int:
        """Size of all tensors and thumbnails."""
        tensors = (*self.ward.tensors, self.pool.low, self.pool.detail)
        thumbnails = sum(len(exemplar.thumbnail) for exemplar in self.exemplars)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + thumbnails

    def merge(self, merge: Merge, exemplars: int) -> None:
        """Do with the clusters what the clustering did with its rows, keeping the `exemplars` nearest ones."""
        kept = self.clusters[merge.kept]
        kept.absorb(self.clusters.pop(merge.absorbed))
        kept.exemplars = self.pool.nearest(kept.exemplars, self.ward.centroids[merge.kept], exemplars)
        self.recent = {e: merge.kept if row == merge.absorbed else row for e, row in self.recent.items()}

    def stay(self, camera: str, stay: Extension) -> None:
        """Let the newest slot of a camera go on."""
        own = ((row, cluster) for row, cluster in self.clusters.items() if cluster.camera == camera)
        row, cluster = max(own, key=lambda one: one[1].newest)
        before = cluster.times
        moved = {e: e.staying(stay) for e in self.exemplars_of(row) if e.time_ns == cluster.newest[0]}
        self.recent = {moved.get(exemplar, exemplar): at for exemplar, at in self.recent.items()}
        cluster.stay(stay, moved)
        self.ward.gain(row, stay.slots)
        if self.episodes.slot_apart:
            self.ward.shift(row, self.episodes.shifted(before, cluster.times, self._times(self.ward.capacity + 1)))

    def apart(self, distances: Sequence[float], times: Times) -> list[float]:
        """The clustering's distances [rows + 1] of what was seen at `times`; `distances` are by appearance alone."""
        return self.episodes.apart(distances, times, self._times(len(distances) - 1))

    def measure_from(self, first: FirstView, config: FlashMemoryConfig) -> None:
        """Let time count in the clustering from another first view, or in another way."""
        before, self.episodes = self.episodes, EpisodeTime.of(first, config)
        if before != self.episodes and (before.slot_apart or self.episodes.slot_apart):
            times = self._times(self.ward.capacity + 1)
            self.ward.add(self.episodes.squares(times) - before.squares(times))

    def _times(self, rows: int) -> list[Times | None]:
        return [self.clusters[row].times if row in self.clusters else None for row in range(rows)]
