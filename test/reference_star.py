"""STAR memory of a clip, written out naively in float64; what the fast code is compared against."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class ReferenceStar:
    abstract: np.ndarray  # [slots, tokens, dim]
    temporal: np.ndarray  # [clusters, tokens, dim]
    weights: list[int]
    members: list[tuple[int, ...]]
    retrieved: list[int]
    margin: float  # smallest relative gap between the nearest and the second nearest centroid or frame
    shifts: list[float]

    def sequence(self, frames: np.ndarray) -> np.ndarray:
        """All tokens [tokens, dim]: abstract, temporal, retrieved, newest."""
        rows = [token for part in (self.abstract, self.temporal) for slot in part for token in slot]
        for index in [*self.retrieved, len(frames) - 1]:
            rows.extend(frames[index])
        return np.stack(rows)


def pooled(frame: np.ndarray, side: int) -> np.ndarray:
    """A square map [tokens, dim] averaged to [side * side, dim]."""
    own = math.isqrt(len(frame))
    step = own // side
    cells = []
    for row in range(side):
        for column in range(side):
            inside = [frame[(row * step + y) * own + column * step + x] for y in range(step) for x in range(step)]
            cells.append(sum(inside) / len(inside))
    return np.stack(cells)


def star(
    frames: np.ndarray,
    weights: dict[str, np.ndarray],
    *,
    clusters: int,
    temporal_side: int,
    slots: int,
    abstract_side: int,
    released: bool,
    init_rows: list[int],
    reseed_rows: list[int],
    ratio: float = 0.2,
) -> ReferenceStar:
    """`frames` [t, tokens, dim]; `weights` of q_proj and k_proj by name."""
    frames = frames.astype(np.float64)
    seen = frames[:-1]
    t = len(seen)
    maps = [pooled(frame, temporal_side).astype(np.float32).astype(np.float64) for frame in seen]
    rows = [one.flatten() for one in maps]
    scale = float(np.mean([row @ row for row in rows])) + 1e-12 if rows else 1.0
    margin, shifts = math.inf, []
    if t <= clusters:
        centroids, sizes, members = rows, [1] * t, [(i,) for i in range(t)]
    else:
        centroids = [rows[i] for i in init_rows]
        queue = list(reseed_rows)
        for _ in range(10):
            own: list[list[int]] = [[] for _ in range(clusters)]
            for i in range(t):
                squared = [float(((rows[i] - centroid) ** 2).sum()) for centroid in centroids]
                nearest = squared.index(min(squared))
                others = [
                    value
                    for c, value in enumerate(squared)
                    if c != nearest and not np.array_equal(centroids[c], centroids[nearest])
                ]
                margin = min(margin, (min(others, default=math.inf) - squared[nearest]) / scale)
                own[nearest].append(i)
            moved = [sum(rows[i] for i in group) / len(group) if group else rows[queue.pop(0)] for group in own]
            shifts.append(sum(float(np.linalg.norm(a - b)) for a, b in zip(moved, centroids, strict=True)))
            if shifts[-1] < 1e-4:
                break
            centroids = moved
        sizes, members = [len(group) for group in own], [tuple(group) for group in own]

    heaviest = sorted(range(len(sizes)), key=lambda c: -sizes[c])[:3]
    retrieved = []
    for c in heaviest:
        if released:
            retrieved.append(next(i for i in range(t) if np.array_equal(rows[i], rows[c])))
            continue
        squared = [float(((row - centroids[c]) ** 2).sum()) for row in rows]
        retrieved.append(next(i for i, value in enumerate(squared) if value <= min(squared) + 1e-6 * scale))
    if not released and t <= 3:
        retrieved = list(range(t))

    memory = np.zeros((0, abstract_side**2, frames.shape[2]))
    if t:
        new = [pooled(frame, abstract_side) for frame in seen]
        memory = np.stack(new[:slots])
        for first in range(slots, t, slots):
            flat = memory.reshape(-1, frames.shape[2])
            chunk = np.concatenate(new[first : first + slots])
            queries = flat @ weights["q_proj.weight"].T + weights["q_proj.bias"]
            keys = chunk @ weights["k_proj.weight"].T + weights["k_proj.bias"]
            updated = []
            for query, token in zip(queries, flat, strict=True):
                scores = np.array([query @ key for key in keys]) / math.sqrt(len(query))
                shares = np.exp(scores - scores.max())
                shares = ratio * shares / shares.sum()
                updated.append(
                    token * (1 - shares.sum()) + sum(share * one for share, one in zip(shares, chunk, strict=True))
                )
            memory = np.stack(updated).reshape(memory.shape)
    shape = (0, temporal_side**2, frames.shape[2])
    temporal = np.stack([row.reshape(shape[1:]) for row in centroids]) if centroids else np.zeros(shape)
    return ReferenceStar(memory, temporal, sizes, members, retrieved, margin, shifts)
