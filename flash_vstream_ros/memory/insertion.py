"""Insertion into a Flash Memory: a slot becomes a cluster; if there are too many, the cheapest pair is merged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .cluster import Cluster
from .config import BY_AGE, FlashMemoryConfig
from .contents import MemoryContents, Steps
from .episodes import EpisodeTime, FirstView
from .exemplars import ExemplarPool, keep_newest
from .slot import Slot
from .slot_checks import not_finite
from .sublinear_ward import SublinearWard

# Slots are unlike each other from this share of the greatest squared distance to a cluster of the same camera on, and
# from this multiple of a typical step on, which is noise while the camera stands still.
UNLIKE_SHARE, UNLIKE_STEPS = 0.25, 4.0


def insert(contents: MemoryContents, slot: Slot, config: FlashMemoryConfig) -> float:
    """Insert a slot with the shape of the stored ones and return its novelty.

    Raises ValueError and changes nothing if a feature is not finite or there are more cameras than clusters.
    """
    item = slot.low.flatten()
    finite = slot.low.isfinite().all() & slot.detail.isfinite().all()
    *distances, is_finite = torch.cat([contents.ward.distances(item), finite.float().unsqueeze(0)]).tolist()
    if not is_finite:
        raise not_finite(slot)
    pool = _pool_with_room(contents, slot, config)
    if not contents.clusters:
        contents.episodes = EpisodeTime.of(FirstView.of(slot, distances[-1]), config)
    else:
        _check_room(contents, slot.camera, config)
        if config.hierarchical and config.episode_slots:
            contents.set_time_reference(contents.episodes.first, config, slot.time_ns)
    novelty = _novelty(contents, slot.camera, distances)
    if config.hierarchical and all(map(math.isfinite, distances)):
        _compare_to_predecessor(contents, slot.camera, distances, config)
    row, merge = contents.ward.insert(item, slot.camera, contents.add_time(distances, (slot.time_ns, 1)))
    newest, contents.pool = pool.store(slot), pool
    contents.clusters[row] = Cluster.of([newest])
    contents.recent = keep_newest({**contents.recent, newest: row}, config.recent_slots)
    if merge:
        contents.merge(merge, config.stored_exemplars)
    pool.free_all_except(contents.exemplars)
    return novelty


def _pool_with_room(contents: MemoryContents, slot: Slot, config: FlashMemoryConfig) -> ExemplarPool:
    """The pool, enlarged if `slot` is the first of its camera."""
    rows = config.exemplar_rows(len({slot.camera, *(cluster.camera for cluster in contents.clusters.values())}))
    return contents.pool if len(contents.pool.low) >= rows else ExemplarPool(rows, slot.low, slot.detail, contents.pool)


def _check_room(contents: MemoryContents, camera: str, config: FlashMemoryConfig) -> None:
    """Raise ValueError if `camera` is new and all CSM slots are needed by other cameras."""
    if len(cameras := {*contents.cameras, camera}) > config.csm_slots:
        raise ValueError(
            f"no room for camera {camera!r}: {len(cameras)} cameras need a synopsis slot each, and there are "
            f"{config.csm_slots}; raise memory.synopsis_slots or use fewer cameras"
        )


def _compare_to_predecessor(
    contents: MemoryContents, camera: str, distances: Sequence[float], config: FlashMemoryConfig
) -> None:
    """Mark the camera's previous slot as transient if it resembles neither its own predecessor nor the new slot.

    `distances` [rows + 1] are those of the new slot in appearance. Only a slot that is still a cluster of its own is
    marked. With groups by weight, slots are unlike from the spacing of the clusters on, which also depends on how many
    of them show the same.
    """
    row = contents.row_of_newest(camera)
    if row is None:
        return
    steps, ward = contents.steps.get(camera, Steps()), contents.ward
    contents.steps[camera] = steps.after(distances[row])
    assert isinstance(ward, SublinearWard)
    if config.grouping == BY_AGE:
        own = (distances[row] for row, cluster in contents.clusters.items() if cluster.camera == camera)
        limit = max(UNLIKE_SHARE * max(own), UNLIKE_STEPS * steps.typical)
    else:
        limit = ward.spacing()
    if steps.last and contents.clusters[row].slots == 1 and min(steps.last, distances[row]) > limit:
        ward.mark_transient(row)


def _novelty(contents: MemoryContents, camera: str, distances: Sequence[float]) -> float:
    """1 - cosine similarity to the camera's nearest centroid, in [0, 1]; `distances` [rows + 1] are in appearance."""
    own = [row for row, cluster in contents.clusters.items() if cluster.camera == camera]
    if not own:
        return 1.0
    nearest = min(own, key=distances.__getitem__)
    norm = distances[-1]
    time_norm = contents.episodes.squared_norm(contents.clusters[nearest].times)
    centroid_norm = max(0.0, contents.ward.squared_norm(nearest) - time_norm)
    if not norm or not centroid_norm:
        return float(norm != centroid_norm)
    cosine = (norm + centroid_norm - distances[nearest]) / (2 * math.sqrt(norm * centroid_norm))
    return min(1.0, max(0.0, 1.0 - cosine))
