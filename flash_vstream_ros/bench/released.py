"""The streaming rule of the released code, only as a baseline.

Each step clusters the K centroids and the new slot into K clusters, from a random start. In effect, every step merges a
random entry with its neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flash_vstream_ros.memory import OrderedClusters, ordered_kmeans


def released_step(
    centroids: Tensor,
    weights: Tensor,
    slot: Tensor,
    capacity: int,
    seed: int,
    init_rows: Sequence[int] | None = None,
) -> OrderedClusters:
    """Cluster `centroids` [clusters, ...] with `weights` [clusters] and one more `slot` [...] of weight 1.

    `init_rows` replace the initial rows that `seed` draws.
    """
    rows = torch.cat([centroids, slot[None]])
    return ordered_kmeans(rows, capacity, torch.cat([weights, weights.new_ones(1)]), seed=seed, init_rows=init_rows)


def released_clusters(slots: Tensor, capacity: int, seed: int) -> tuple[Tensor, Tensor]:
    """Stream `slots` [slots, features]. Returns centroids [clusters, features] and each slot's cluster [slots]."""
    centroids, weights = slots[:0], torch.zeros(0)
    cluster_of = torch.zeros(0, dtype=torch.long)
    for step, slot in enumerate(slots):
        found = released_step(centroids, weights, slot, capacity, seed + step)
        became = torch.zeros(len(centroids) + 1, dtype=torch.long)  # cluster of each row
        for cluster, members in enumerate(found.members):
            became[list(members)] = cluster
        cluster_of = became[torch.cat([cluster_of, torch.tensor([len(centroids)])])]
        centroids, weights = found.centroids, found.weights
    return centroids, cluster_of
