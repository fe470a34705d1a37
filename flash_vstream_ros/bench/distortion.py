"""Distortion of the memory of a long stream.

Weighted distortion is the sum over all slots of |slot - centroid of its cluster|^2. The stream drifts and returns.
Online Ward clustering, with published and with hierarchical retention, is compared with the published offline k-means
over the whole stream and with the released streaming rule.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, Grid, Slot, WardClustering, ordered_kmeans
from flash_vstream_ros.memory.config import BY_WEIGHT, HIERARCHICAL
from flash_vstream_ros.progress import tracked

from .released import released_clusters

KMEANS_STARTS = 3
RATIOS = (
    "ward/kmeans",
    "ward/best kmeans",
    "ward/released",
    "hierarchical/kmeans",
    "hierarchical/best kmeans",
    "hierarchical/released",
)
SLOT_NS = 2_000_000_000


def robot_stream(
    length: int, seed: int, patches: int = 16, dim: int = 64, places: int = 40, noise: float = 0.3
) -> Tensor:
    """A synthetic stream [length, patches * dim] of a robot that moves along a ring of places, forwards and back.

    Each place has its own appearance (unit variance). A visit takes 4 to 20 slots and shows one of three views of the
    place (0.4). One to three slots between places are mixtures. The light varies slowly (0.5), and each slot has
    independent `noise`.
    """
    draw = torch.Generator().manual_seed(seed)
    features = patches * dim
    appearance = torch.randn(places, 1, features, generator=draw)
    views = appearance + 0.4 * torch.randn(places, 3, features, generator=draw)
    light = 0.5 * torch.randn(features, generator=draw)

    def integer(first: int, last: int) -> int:
        return int(torch.randint(first, last + 1, (), generator=draw))

    slots: list[Tensor] = []
    place, previous = 0, views[0, 0]
    while len(slots) < length:
        view = views[place, integer(0, 2)]
        slots.extend(torch.lerp(previous, view, share) for share in torch.linspace(0, 1, integer(1, 3) + 2)[1:-1])
        slots.extend([view] * integer(4, 20))
        forward = integer(1, 10) <= 7
        place, previous = (place + (1 if forward else -1) * integer(1, 2)) % places, view
    swing = torch.sin(torch.arange(length) * (2 * torch.pi / 900))[:, None]
    return torch.stack(slots[:length]) + swing * light + noise * torch.randn(length, features, generator=draw)


def ward_clusters(slots: Tensor, capacity: int) -> tuple[Tensor, Tensor]:
    """Centroids [rows, features] after streaming `slots` [slots, features], and the cluster of each slot [slots]."""
    ward = WardClustering(capacity, slots.shape[1])
    cluster_of = torch.zeros(len(slots), dtype=torch.long)
    for step, slot in enumerate(slots):
        row, merge = ward.insert(slot)
        cluster_of[step] = row
        if merge:
            seen = cluster_of[: step + 1]
            seen[seen == merge.absorbed] = merge.kept
    return ward.centroids, cluster_of


def slot_of(features: Tensor, index: int, patches: int) -> Slot:
    """Slot `index` of a stream, with low-resolution `features` [patches * dim] and a minimal detail."""
    low = features.unflatten(0, (patches, -1))
    first_ns = index * SLOT_NS
    return Slot("camera", "", first_ns, first_ns + SLOT_NS // 2, low, features.new_zeros(1, 1), Grid(4, 4))


def hierarchical_distortion(slots: Tensor, capacity: int, patches: int, grouping: str = BY_WEIGHT) -> float:
    """Distortion of the clusters in a hierarchical memory's snapshot after streaming `slots` [slots, features]."""
    config = FlashMemoryConfig(capacity, 1, 1, 0, SLOT_NS, retention=HIERARCHICAL, grouping=grouping)
    memory = FlashMemory(config)
    for index, features in enumerate(slots):
        memory.insert(slot_of(features, index, patches))
    snapshot = memory.snapshot()
    weights = torch.tensor([entry.weight for entry in snapshot.entries[len(snapshot.dam) :]], dtype=torch.float64)
    # For means: distortion = sum of squares of the slots - weighted sum of squares of the centroids.
    of_centroids = weights @ snapshot.csm.flatten(1).double().square().sum(1)
    return float(slots.double().square().sum() - of_centroids)


def kmeans_clusters(slots: Tensor, capacity: int, seed: int) -> tuple[Tensor, Tensor]:
    """Like `ward_clusters`, with the published k-means over all `slots`."""
    found = ordered_kmeans(slots, capacity, seed=seed)
    cluster_of = torch.zeros(len(slots), dtype=torch.long)
    for cluster, members in enumerate(found.members):
        cluster_of[list(members)] = cluster
    return found.centroids, cluster_of


def distortion(slots: Tensor, centroids: Tensor, cluster_of: Tensor) -> float:
    """Sum over `slots` [slots, features] of the squared distance to the centroid of their cluster."""
    return float((slots - centroids[cluster_of]).double().square().sum())


def compare(length: int, seed: int, capacity: int, grouping: str = BY_WEIGHT, **stream: Any) -> dict[str, float]:
    """Distortion of the four rules on one stream, and ratios to the mean and the best start of k-means."""
    slots = robot_stream(length, seed, **stream)
    ward = distortion(slots, *ward_clusters(slots, capacity))
    hierarchical = hierarchical_distortion(slots, capacity, stream.get("patches", 16), grouping)
    starts = [distortion(slots, *kmeans_clusters(slots, capacity, start)) for start in range(KMEANS_STARTS)]
    kmeans, best = statistics.mean(starts), min(starts)
    released = distortion(slots, *released_clusters(slots, capacity, seed))
    return {
        "length": length,
        "seed": seed,
        "ward": ward,
        "hierarchical": hierarchical,
        "kmeans": kmeans,
        "best kmeans": best,
        "released": released,
        "ward/kmeans": ward / kmeans,
        "ward/best kmeans": ward / best,
        "ward/released": ward / released,
        "hierarchical/kmeans": hierarchical / kmeans,
        "hierarchical/best kmeans": hierarchical / best,
        "hierarchical/released": hierarchical / released,
    }


def run(
    lengths: Sequence[int] = (4500, 18_000),
    seeds: Sequence[int] = (0, 1),
    capacity: int = 60,
    grouping: str = BY_WEIGHT,
    **stream: Any,
) -> dict[str, Any]:
    """All comparisons; `stream` has arguments of `robot_stream`, `grouping` is that of the hierarchical memory."""
    cases = [(length, seed) for length in lengths for seed in seeds]
    rows = [compare(*case, capacity, grouping, **stream) for case in tracked(cases, "distortion", len(cases))]
    return {
        "capacity": capacity,
        "distortion": rows,
        "worst": {ratio: max(row[ratio] for row in rows) for ratio in RATIOS},
    }


def show(result: dict[str, Any]) -> None:
    """Print the ratios of `run`."""
    print(f"weighted distortion, {result['capacity']} clusters; k-means: mean and best of {KMEANS_STARTS} starts")
    print(f"{'slots':>6} {'seed':>5}" + "".join(f"{ratio:>25}" for ratio in RATIOS))
    for row in result["distortion"]:
        print(f"{row['length']:>6} {row['seed']:>5}" + "".join(f"{row[ratio]:>25.3f}" for ratio in RATIOS))
    print(f"{'worst':>12}" + "".join(f"{result['worst'][ratio]:>25.3f}" for ratio in RATIOS))
