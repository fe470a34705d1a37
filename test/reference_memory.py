"""The streaming memory written out naively: every cluster is recomputed from its members at every step."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class NaiveCluster:
    members: list[int]
    exemplars: list[int]


@dataclass
class NaiveMemory:
    """Slots are indices into `maps` [slots, features] (float64), `cameras` and `times` (slots; none: the indices)."""

    maps: np.ndarray
    cameras: list[str]
    capacity: int
    dam_slots: int
    exemplars: int
    recent: int
    episode: float = 0.0  # equal views this many slots apart are as distant as the first view is from zero; 0: never
    times: Sequence[float] = ()
    clusters: list[NaiveCluster] = field(default_factory=list)  # first born first
    newest: list[int] = field(default_factory=list)
    seen: int = 0
    first: int = 0  # the view whose length tells how much time counts
    margin: float = np.inf  # smallest relative gap between a decision and the next best one

    def _apart(self, a: NaiveCluster, b: NaiveCluster) -> float:
        """Squared distance of the centroids, time being a coordinate."""
        gap = self.centroid(a) - self.centroid(b)
        slots = self.time(a) - self.time(b)
        scale = float(self.maps[self.first] @ self.maps[self.first]) / self.episode**2 if self.episode else 0.0
        return float(gap @ gap + scale * slots**2)

    def time(self, cluster: NaiveCluster) -> float:
        return float(np.mean([self.times[slot] if self.times else slot for slot in cluster.members]))

    def centroid(self, cluster: NaiveCluster) -> np.ndarray:
        return self.maps[cluster.members].mean(0)

    def insert(self) -> None:
        if not self.clusters:
            self.first = self.seen
        self.clusters.append(NaiveCluster([self.seen], [self.seen]))
        self.newest.append(self.seen)
        self.seen += 1
        self._fit()

    def novelty(self) -> float:
        """Novelty of the next slot: 1 - cosine similarity to its camera's nearest centroid."""
        low, camera = self.maps[self.seen], self.cameras[self.seen]
        own = [self.centroid(c) for c in self.clusters if self.cameras[c.members[0]] == camera]
        if not own:
            return 1.0
        nearest = min(own, key=lambda centroid: float((low - centroid) @ (low - centroid)))
        return 1.0 - float(low @ nearest) / float(np.linalg.norm(low) * np.linalg.norm(nearest))

    def held(self, cluster: NaiveCluster) -> list[int]:
        return sorted({*cluster.exemplars, *(slot for slot in self.newest if slot in cluster.members)})

    def forget(self, doomed: set[int]) -> None:
        for cluster in [cluster for cluster in self.clusters if doomed & {*cluster.members}]:
            cluster.members = [slot for slot in self.held(cluster) if slot not in doomed]
            if cluster.members:
                self._rank(cluster, cluster.members)
            else:
                self.clusters.remove(cluster)
        self.newest = [slot for slot in self.newest if slot not in doomed]
        if self.first in doomed:
            self.first = min((slot for cluster in self.clusters for slot in self.held(cluster)), default=0)

    def resize(self, capacity: int, dam_slots: int, exemplars: int, recent: int, episode: float) -> None:
        self.capacity, self.dam_slots, self.exemplars, self.recent = capacity, dam_slots, exemplars, recent
        self.episode = episode
        self._fit()

    def _fit(self) -> None:
        while len(self.clusters) > self.capacity:
            self._merge_the_cheapest()
        for cluster in self.clusters:
            cluster.exemplars = cluster.exemplars[: self.exemplars]
        own = [[slot for slot in self.newest if self.cameras[slot] == name] for name in {*self.cameras}]
        self.newest = sorted(slot for slots in own for slot in slots[max(0, len(slots) - self.recent) :])

    def _merge_the_cheapest(self) -> None:
        costs = []
        for i, j in itertools.combinations(range(len(self.clusters)), 2):
            a, b = self.clusters[i], self.clusters[j]
            if self.cameras[a.members[0]] == self.cameras[b.members[0]]:
                weight = len(a.members) * len(b.members) / (len(a.members) + len(b.members))
                costs.append((weight * self._apart(a, b), i, j))
        costs.sort()
        if len(costs) > 1:
            self.margin = min(self.margin, (costs[1][0] - costs[0][0]) / costs[1][0])
        _, i, j = costs[0]
        kept, absorbed = self.clusters[i], self.clusters.pop(j)
        kept.members = sorted(kept.members + absorbed.members)
        self._rank(kept, sorted(kept.exemplars + absorbed.exemplars))

    def _rank(self, cluster: NaiveCluster, candidates: list[int]) -> None:
        centroid = self.centroid(cluster)
        distance = {slot: float(((self.maps[slot] - centroid) ** 2).sum()) for slot in candidates}
        # Slots of a pair are equally near up to rounding: the earlier comes first.
        ranked = sorted(candidates, key=lambda slot: (round(distance[slot], 9), slot))
        for a, b in itertools.pairwise(ranked):
            if distance[b] - distance[a] > 1e-9:
                self.margin = min(self.margin, (distance[b] - distance[a]) / distance[b])
        cluster.exemplars = ranked[: self.exemplars]

    def csm(self) -> list[NaiveCluster]:
        return sorted(self.clusters, key=self.time)

    def dam(self) -> list[int]:
        chosen = sorted(self.newest, reverse=True)
        heaviest = sorted(self.csm(), key=lambda cluster: -len(cluster.members))
        for rank in range(self.exemplars):
            for cluster in heaviest:
                if rank < len(cluster.exemplars) and cluster.exemplars[rank] not in chosen:
                    chosen.append(cluster.exemplars[rank])
        return sorted(chosen) if len(chosen) <= self.dam_slots else chosen[: self.dam_slots]
