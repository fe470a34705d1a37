"""Published k-means and DAM choice, written out naively in float64; what the fast code is compared against."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Reference:
    centroids: np.ndarray
    weights: list[float]
    timestamps: list[float]
    members: list[tuple[int, ...]]
    # Smallest relative gap between the nearest and the second nearest centroid in any assignment.
    margin: float = math.inf
    shifts: list[float] = field(default_factory=list)
    reseeds: int = 0


def kmeans(rows: np.ndarray, clusters: int, weights: list[float], init_rows: list[int], reseed_rows: list[int]):
    """The published algorithm line by line; `rows` [t, features]."""
    rows = rows.astype(np.float64)
    t = len(rows)
    if t <= clusters:
        return Reference(rows, list(weights), [float(i) for i in range(t)], [(i,) for i in range(t)])
    distinct = sorted({tuple(row) for row in rows.tolist()})
    if len(distinct) < clusters:
        own = [tuple(i for i in range(t) if tuple(rows[i]) == row) for row in distinct]
        own = [(i,) for i in range(clusters - len(distinct))] + sorted(own, key=np.mean)
        times = [float(np.mean(members)) for members in own]
        return Reference(np.stack([rows[members[0]] for members in own]), [1.0] * clusters, times, own)

    result = Reference(rows[:0], [], [], [])
    centroids = [rows[i] for i in init_rows]
    scale = float((rows**2).sum(1).mean()) + 1e-12
    queue = list(reseed_rows)
    for _ in range(10):
        members: list[list[int]] = [[] for _ in range(clusters)]
        for i in range(t):
            squared = [float(((rows[i] - centroid) ** 2).sum()) for centroid in centroids]
            nearest, second = sorted(squared)[:2] if clusters > 1 else (0.0, scale)
            result.margin = min(result.margin, (second - nearest) / scale)
            members[squared.index(nearest if clusters > 1 else squared[0])].append(i)
        moved = []
        for own in members:
            total = sum(weights[i] for i in own)
            if total == 0:
                result.reseeds += 1
                moved.append(rows[queue.pop(0)])
            else:
                moved.append(sum(weights[i] * rows[i] for i in own) / total)
        shift = sum(float(np.linalg.norm(new - old)) for new, old in zip(moved, centroids, strict=True))
        result.shifts.append(shift)
        if shift < 1e-4:
            break
        centroids = moved
    order = sorted((c for c in range(clusters) if members[c]), key=lambda c: float(np.mean(members[c])))
    result.centroids = np.stack([centroids[c] for c in order])
    result.weights = [sum(weights[i] for i in members[c]) for c in order]
    result.timestamps = [float(np.mean(members[c])) for c in order]
    result.members = [tuple(members[c]) for c in order]
    return result


def dam_slots(rows: np.ndarray, centroids: np.ndarray, weights: list[float], count: int) -> list[int]:
    """Slots of DAM; a slot that is nearer by less than 1e-6 of the mean squared norm is as near."""
    rows = rows.astype(np.float64)
    if len(rows) <= count:
        return list(range(len(rows)))
    tie = 1e-6 * float((rows**2).sum(1).mean())
    heaviest = sorted(range(len(weights)), key=lambda c: -weights[c])[:count]
    chosen = []
    for c in heaviest:
        squared = [float(((row - centroids[c]) ** 2).sum()) for row in rows]
        chosen.append(next(i for i, value in enumerate(squared) if value <= min(squared) + tie))
    return chosen
