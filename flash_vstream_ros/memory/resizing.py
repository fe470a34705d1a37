"""Changing the sizes of a Flash Memory: contents move to new tensors, and surplus clusters are merged."""

from __future__ import annotations

from .config import FlashMemoryConfig
from .contents import MemoryContents, clustering_of
from .exemplars import ExemplarPool, keep_newest
from .ward import WardClustering


def resize(contents: MemoryContents, before: FlashMemoryConfig, config: FlashMemoryConfig) -> None:
    """Change the sizes of `contents` from those of `before` to those of `config`.

    Surplus stored clusters are merged as in the stream, and surplus exemplars are dropped. New tensors are allocated
    before the old ones are freed. If allocation fails, torch's error is raised and nothing changes.
    """
    allocated = _allocate(contents, config) if config.shape_settings != before.shape_settings else None
    contents.set_time_reference(contents.episodes.first, config)
    if allocated is not None:
        _move(contents, *allocated, config)


def _allocate(contents: MemoryContents, config: FlashMemoryConfig) -> tuple[WardClustering, ExemplarPool]:
    """Empty tensors of the sizes of `config`."""
    centroids, rows = contents.ward.centroids, config.exemplar_rows(len(contents.cameras))
    ward = clustering_of(config, centroids.shape[1], centroids.device)
    return ward, ExemplarPool(rows, contents.pool.low[0], contents.pool.detail[0])


def _move(contents: MemoryContents, ward: WardClustering, pool: ExemplarPool, config: FlashMemoryConfig) -> None:
    """Move `contents` to `ward` and `pool`. Raises ValueError if there are fewer clusters than cameras."""
    for merge in contents.ward.reduce(config.stored_clusters):
        contents.merge(merge, config.stored_exemplars)
    for cluster in contents.clusters.values():
        del cluster.exemplars[config.stored_exemplars :]
    contents.recent = keep_newest(contents.recent, config.recent_slots)
    copies, rows = pool.copy_from(contents.pool, contents.exemplars), ward.copy_from(contents.ward)
    for cluster in contents.clusters.values():
        cluster.exemplars = [copies[exemplar] for exemplar in cluster.exemplars]
    contents.ward, contents.pool = ward, pool
    contents.clusters = {rows[row]: cluster for row, cluster in contents.clusters.items()}
    contents.recent = {copies[exemplar]: rows[row] for exemplar, row in contents.recent.items()}
