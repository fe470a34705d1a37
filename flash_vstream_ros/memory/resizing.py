"""A Flash Memory of other sizes: its clusters and exemplars in new tensors, merged down where there are too many."""

from __future__ import annotations

from .config import FlashMemoryConfig
from .contents import MemoryContents
from .exemplars import ExemplarPool, newest_of_each
from .ward import WardClustering


def resize(held: MemoryContents, before: FlashMemoryConfig, config: FlashMemoryConfig) -> None:
    """Let what was held in the sizes of `before` be held in those of `config`.

    What is too much is merged by the rule of the stream, or falls out. Tensors of other sizes are allocated once, while
    the old ones are still there. Raises what torch raises when there is no room; nothing has changed then.
    """
    room = _room(held, config) if config.rows != before.rows else None
    held.measure_from(held.episodes.first, config)
    if room is not None:
        _move(held, *room, config)


def _room(held: MemoryContents, config: FlashMemoryConfig) -> tuple[WardClustering, ExemplarPool]:
    """Empty tensors of the sizes of `config`."""
    centroids, rows = held.ward.centroids, config.exemplar_rows(len(held.cameras))
    ward = WardClustering(config.csm_slots, centroids.shape[1], centroids.device)
    return ward, ExemplarPool(rows, held.pool.low[0], held.pool.detail[0])


def _move(held: MemoryContents, ward: WardClustering, pool: ExemplarPool, config: FlashMemoryConfig) -> None:
    """Raises ValueError when there are fewer clusters than cameras."""
    for merge in held.ward.reduce(config.csm_slots):
        held.merge(merge, config.exemplars)
    for cluster in held.clusters.values():
        del cluster.exemplars[config.exemplars :]
    held.recent = newest_of_each(held.recent, config.recent_slots)
    moved, rows = pool.take_over(held.exemplars, held.pool), ward.take_over(held.ward)
    for cluster in held.clusters.values():
        cluster.exemplars = [moved[exemplar] for exemplar in cluster.exemplars]
    held.ward, held.pool = ward, pool
    held.clusters = {rows[row]: cluster for row, cluster in held.clusters.items()}
    held.recent = {moved[exemplar]: rows[row] for exemplar, row in held.recent.items()}
