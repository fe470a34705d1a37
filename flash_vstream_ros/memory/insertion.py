"""How a slot enters a Flash Memory: as a cluster of its own, after which the cheapest pair is merged where it must."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .cluster import Cluster
from .config import FlashMemoryConfig
from .contents import MemoryContents
from .episodes import EpisodeTime, FirstView
from .exemplars import ExemplarPool, newest_of_each
from .slot import Slot


def insert(held: MemoryContents, slot: Slot, config: FlashMemoryConfig) -> float:
    """Take in a slot that is like those held; its novelty.

    Raises ValueError, and changes nothing, when a feature is not finite or there are more cameras than clusters.
    """
    item = slot.low.flatten()
    finite = slot.low.isfinite().all() & slot.detail.isfinite().all()
    *distances, is_finite = torch.cat([held.ward.distances(item), finite.float().unsqueeze(0)]).tolist()
    if not is_finite:
        raise ValueError(f"a slot of camera {slot.camera!r} has NaN or infinite features; leave it out")
    pool = _with_room(held, slot, config)
    if not held.clusters:
        held.episodes = EpisodeTime.of(FirstView.of(slot, distances[-1]), config)
    novelty = _novelty(held, slot.camera, distances)
    row, merge = held.ward.insert(item, slot.camera, held.apart(distances, (slot.time_ns, 1)))
    newest, held.pool = pool.hold(slot), pool
    held.clusters[row] = Cluster.of([newest])
    held.recent = newest_of_each({**held.recent, newest: row}, config.recent_slots)
    if merge:
        held.merge(merge, config.exemplars)
    pool.keep_only(held.exemplars)
    return novelty


def _with_room(held: MemoryContents, slot: Slot, config: FlashMemoryConfig) -> ExemplarPool:
    """A pool of what is held that has rows for what is held of the cameras seen so far, and of that of `slot`."""
    rows = config.exemplar_rows(len({slot.camera, *(cluster.camera for cluster in held.clusters.values())}))
    return held.pool if len(held.pool.low) >= rows else ExemplarPool(rows, slot.low, slot.detail, held.pool)


def _novelty(held: MemoryContents, camera: str, distances: Sequence[float]) -> float:
    """1 - cosine similarity, in [0, 1], with the camera's nearest centroid; `distances` [rows + 1] by appearance."""
    own = [row for row, cluster in held.clusters.items() if cluster.camera == camera]
    if not own:
        return 1.0
    nearest = min(own, key=distances.__getitem__)
    norm = distances[-1]
    in_time = held.episodes.squared(held.clusters[nearest].times)
    centroid_norm = max(0.0, held.ward.squared_norm(nearest) - in_time)
    if not norm or not centroid_norm:
        return float(norm != centroid_norm)
    cosine = (norm + centroid_norm - distances[nearest]) / (2 * math.sqrt(norm * centroid_norm))
    return min(1.0, max(0.0, 1.0 - cosine))
