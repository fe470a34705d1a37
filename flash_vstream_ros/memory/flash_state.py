"""State of a Flash Memory: converts its contents to tensors and values, and back.

Clusters keep their rows, so that ties are decided as before. Exemplars get new rows, which affects no result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from .cluster import Cluster
from .config import FlashMemoryConfig
from .contents import MemoryContents, Steps, clustering_of
from .episodes import EpisodeTime, FirstView
from .exemplars import Exemplar, ExemplarPool
from .region import Region
from .slot import Grid
from .state import MemoryState, UnsupportedState, saved_features, saved_place, saved_tensors, saved_values

EXEMPLAR_VALUES = ("camera", "frame_id", "first_ns", "last_ns", "time_ns", "thumbnail_ns")


def state_of(contents: MemoryContents | None, config: FlashMemoryConfig, slots_seen: int) -> MemoryState:
    """Copy of the whole memory; `contents` is None before the first slot. A memory that forgot everything is empty."""
    values: dict[str, Any] = {"config": asdict(config), "slots_seen": slots_seen}
    if contents is None or not contents.clusters:
        return MemoryState({}, values)
    exemplars = list(contents.exemplars)
    places = {exemplar: place for place, exemplar in enumerate(exemplars)}
    rows = torch.tensor([exemplar.row for exemplar in exemplars], dtype=torch.long, device=contents.pool.low.device)
    ward = contents.ward.state()
    values |= {
        "grid": list(contents.grid),
        "ward": ward.values,
        "exemplars": saved_values(exemplars, EXEMPLAR_VALUES),
        "clusters": [
            {
                "row": row,
                "camera": cluster.camera,
                "spans": cluster.spans,
                "oldest_ns": cluster.oldest_ns,
                "newest": cluster.newest,
                "time_sum": cluster.time_sum,
                "slots": cluster.slots,
                "exemplars": [places[exemplar] for exemplar in cluster.exemplars],
                "region": cluster.region,
            }
            for row, cluster in contents.clusters.items()
        ],
        "recent": [[places[exemplar], row] for exemplar, row in contents.recent.items()],
        "first_view": contents.episodes.first._asdict(),
        "episode_slots": contents.episodes.episode_slots,
        "steps": contents.steps,
    }
    tensors = {
        **{f"ward.{name}": tensor for name, tensor in ward.tensors.items()},
        **saved_tensors(contents.pool.low[rows], contents.pool.detail[rows], exemplars),
    }
    return MemoryState(tensors, values)


def config_of(state: MemoryState) -> FlashMemoryConfig:
    """The sizes of the memory that was saved."""
    return FlashMemoryConfig(**state.values["config"])


def contents_of(state: MemoryState, device: torch.device) -> MemoryContents | None:
    """Contents equal to those that were saved, on `device`; None for an empty memory. Raises UnsupportedState."""
    if not state.tensors:
        return None
    tensors, values, config = state.tensors, state.values, config_of(state)
    if not values["exemplars"]:
        raise UnsupportedState("a memory with clusters has no exemplars")
    low, detail, thumbnails = saved_features(tensors, values["exemplars"], device)
    ward = clustering_of(config, low[0].numel(), device)
    ward.restore(MemoryState(_named(tensors, "ward."), values["ward"]))
    clusters: list[Mapping[str, Any]] = values["clusters"]
    if sorted(cluster["row"] for cluster in clusters) != sorted(ward.rows):
        raise UnsupportedState(f"{len(clusters)} clusters have other rows than their centroids")
    rows = config.exemplar_rows(len({cluster["camera"] for cluster in clusters}))
    pool = ExemplarPool(max(rows, len(low) + 1), low[0], detail[0])
    pool.low[: len(low)], pool.detail[: len(low)] = low, detail
    exemplars = [
        Exemplar(row=row, thumbnail=jpeg, **saved_place(each), **{n: each[n] for n in EXEMPLAR_VALUES})
        for row, (each, jpeg) in enumerate(zip(values["exemplars"], thumbnails, strict=True))
    ]
    pool.free_all_except(exemplars)
    return MemoryContents(
        ward=ward,
        pool=pool,
        grid=Grid(*values["grid"]),
        clusters={cluster["row"]: _cluster(cluster, exemplars) for cluster in clusters},
        recent={exemplars[place]: row for place, row in values["recent"]},
        episodes=EpisodeTime(_first_view(values["first_view"]), float(values["episode_slots"]), config.slot_period_ns),
        steps={camera: Steps(*map(float, steps)) for camera, steps in dict(values["steps"]).items()},
    )


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _first_view(values: Mapping[str, Any]) -> FirstView:
    return FirstView(**{**values, "region": Region.from_values(values["region"])})


def _cluster(values: Mapping[str, Any], exemplars: Sequence[Exemplar]) -> Cluster:
    return Cluster(
        camera=values["camera"],
        spans=tuple((first, last) for first, last in values["spans"]),
        oldest_ns=values["oldest_ns"],
        newest=(values["newest"][0], values["newest"][1]),
        time_sum=values["time_sum"],
        slots=values["slots"],
        exemplars=[exemplars[place] for place in values["exemplars"]],
        region=Region.from_values(values["region"]),
    )
