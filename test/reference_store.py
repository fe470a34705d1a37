"""The hierarchical memory written out naively: every cluster is recomputed from its members at every step."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

TRANSIENT_MASS, UNLIKE_SHARE, UNLIKE_STEPS, STEPS = 0.2, 0.25, 4.0, 32
STORED, SHOWN = 0.5, 0.2  # exponents of masses in the cost of a merge
TIE = 1e-9


@dataclass
class NaiveStore:
    """Slots are indices into `maps` [slots, features] (float64), of `cameras`; `shown` groups of `stored` clusters."""

    maps: np.ndarray
    cameras: list[str]
    shown: int
    stored: int
    by_age: bool = True  # without episodes; otherwise by weight
    clusters: list[list[int]] = field(default_factory=list)  # first born first
    masses: dict[int, float] = field(default_factory=dict)  # of slots
    steps: dict[str, list[float]] = field(default_factory=dict)  # by camera
    seen: int = 0
    margin: float = np.inf  # smallest relative gap between a decision and the next best one

    def insert(self) -> None:
        slot, self.seen = self.seen, self.seen + 1
        camera = self.cameras[slot]
        own = [cluster for cluster in self.clusters if self.cameras[cluster[0]] == camera]
        if own:
            cluster = max(own, key=max)
            step = _squared(self.maps[slot], self.centroid(cluster))
            steps = self.steps.setdefault(camera, [])
            if len(cluster) == 1 and steps:
                limit = self._unlike(slot, own, steps) if self.by_age else self._spacing()
                self._compare(min(steps[-1], step), limit)
                if min(steps[-1], step) > limit:
                    self.masses[cluster[0]] = TRANSIENT_MASS
            steps.append(step)
        self.masses[slot] = 1.0
        self.clusters.append([slot])
        if len(self.clusters) > self.stored:
            i, j = self._cheapest([[c] for c in self.clusters], [self._mass(c) ** STORED for c in self.clusters])
            self.clusters[i] = sorted(self.clusters[i] + self.clusters.pop(j))

    def groups(self) -> list[list[list[int]]]:
        """Clusters by group, in order of their first clusters."""
        groups = [[cluster] for cluster in self.clusters]
        while len(groups) > self.shown:
            i, j = self._cheapest(groups, [self._shown_mass(group) for group in groups])
            groups[i] = groups[i] + groups.pop(j)
        for _ in range(5):
            centres = [self.centroid(flat(group)) for group in groups]
            moved: list[list[list[int]]] = [[] for _ in groups]
            for here, group in enumerate(groups):
                for cluster in group:
                    distances = [
                        _squared(self.centroid(cluster), centre)
                        if self.cameras[cluster[0]] == self.cameras[groups[at][0][0]]
                        else np.inf
                        for at, centre in enumerate(centres)
                    ]
                    ranked = sorted(distances)
                    if len(ranked) > 1 and np.isfinite(ranked[1]):
                        self._compare(*ranked[:2])
                    nearest = int(np.argmin(distances))
                    moved[nearest if distances[here] - distances[nearest] > TIE * distances[here] else here] += [
                        cluster
                    ]
            if not all(moved):
                break
            groups = moved
        groups = [sorted(group, key=self.clusters.index) for group in groups]
        return sorted(groups, key=lambda group: self.clusters.index(group[0]))

    def centroid(self, members: list[int]) -> np.ndarray:
        return self.maps[members].mean(0)

    def _mass(self, cluster: list[int]) -> float:
        return sum(self.masses[slot] for slot in cluster)

    def _shown_mass(self, group: list[list[int]]) -> float:
        """1 if any cluster of the group has a slot that is not transient; by weight, a power of the weight."""
        return max(self.masses[slot] for slot in flat(group)) if self.by_age else len(flat(group)) ** SHOWN

    def _unlike(self, slot: int, own: list[list[int]], steps: list[float]) -> float:
        typical = np.log(steps[0])
        for step in steps[1:]:
            typical += (np.log(step) - typical) / STEPS
        furthest = max(_squared(self.maps[slot], self.centroid(cluster)) for cluster in own)
        return float(max(UNLIKE_SHARE * furthest, UNLIKE_STEPS * np.exp(typical)))

    def _spacing(self) -> float:
        nearest = []
        for cluster in self.clusters:
            others = [
                _squared(self.centroid(cluster), self.centroid(other))
                for other in self.clusters
                if other is not cluster and self.cameras[other[0]] == self.cameras[cluster[0]]
            ]
            nearest += [min(others)] if others else []
        return float(np.median(nearest)) if nearest else np.inf

    def _cheapest(self, groups: list[list[list[int]]], masses: list[float]) -> tuple[int, int]:
        costs = []
        for i, j in itertools.combinations(range(len(groups)), 2):
            a, b = flat(groups[i]), flat(groups[j])
            if self.cameras[a[0]] == self.cameras[b[0]]:
                left, right = masses[i], masses[j]
                costs.append((left * right / (left + right) * _squared(self.centroid(a), self.centroid(b)), i, j))
        costs.sort()
        if len(costs) > 1:
            self._compare(costs[0][0], costs[1][0])
        return costs[0][1:]

    def _compare(self, a: float, b: float) -> None:
        if np.isfinite(a) and np.isfinite(b):
            self.margin = min(self.margin, abs(a - b) / max(a, b, 1e-30))


def flat(group: list[list[int]]) -> list[int]:
    """The members of all clusters of a group."""
    return [*itertools.chain(*group)]


def _squared(a: np.ndarray, b: np.ndarray) -> float:
    return float((a - b) @ (a - b))
