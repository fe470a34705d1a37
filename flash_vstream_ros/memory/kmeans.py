"""The published k-means and retrieval (arXiv 2506.23825), computed in float32 for any dtype of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_ITERATIONS = 10
CONVERGED_SHIFT = 1e-4
# Distances that differ by less than this share of the mean squared norm are ties: the difference may be rounding.
TIE_SHARE = 1e-6

SquaredDistances = Callable[[Tensor, Tensor], Tensor]  # (rows, centroids) -> [rows, clusters]


@dataclass(frozen=True, eq=False)
class OrderedClusters:
    """Clusters of rows, ordered by timestamp."""

    centroids: Tensor  # [clusters, ...] in the dtype of the rows
    weights: Tensor  # [clusters] float32, sum of the members' weights
    timestamps: Tensor  # [clusters] float64, on the CPU: unweighted mean of the members' row indices
    members: tuple[tuple[int, ...], ...]


def klarge_retrieve(low: Tensor, centroids: Tensor, weights: Tensor, dam_slots: int) -> tuple[int, ...]:
    """Choose the slots of DAM: the slot nearest to the centroid of each of the heaviest clusters.

    From "Detail Augmentation Memory" of arXiv 2506.23825; the released code calls it klarge_retrieve.

    `low` [slots, ...], `centroids` [clusters, ...], `weights` [clusters]. If there are at most `dam_slots`
    slots, all are chosen, ordered by time. Ties of weight go to the earlier cluster, ties of distance to the earlier
    slot.
    """
    slots = low.shape[0]
    if slots <= dam_slots:
        return tuple(range(slots))
    rows = low.flatten(1).float()
    tie = TIE_SHARE * float(rows.square().sum(1).mean())
    heaviest = torch.argsort(weights, descending=True, stable=True)[:dam_slots]
    chosen = []
    for cluster in heaviest.tolist():
        squared = (rows - centroids[cluster].flatten().float()).square().sum(1)
        chosen.append(int((squared <= squared.min() + tie).int().argmax()))
    return tuple(chosen)


def ordered_kmeans(
    features: Tensor,
    clusters: int,
    weights: Tensor | None = None,
    *,
    seed: int = 0,
    init_rows: Sequence[int] | None = None,
    reseed_rows: Sequence[int] = (),
    squared_distances: SquaredDistances | None = None,
) -> OrderedClusters:
    """Cluster `features` [rows, ...] by weighted k-means into at most `clusters` clusters, ordered by time.

    From "Context Synopsis Memory" of arXiv 2506.23825; the released code calls it kmeans_ordered.

    `weights` [rows] default to ones. `init_rows` replace the initial rows that `seed` draws, `reseed_rows` the first
    random rows that reseed empty clusters. For `squared_distances` see `lloyd`.

    If there are at most `clusters` rows, each is a cluster with its own weight. If there are fewer distinct rows than
    clusters, each distinct row is a cluster of weight 1, and the first rows come before them as padding, as published.
    A cluster that ends without a member is left out; the published code divides by zero there.

    Raises ValueError if there is no row or no cluster, a value is not finite, or a weight is negative.
    """
    rows = features.flatten(1).float()
    count = rows.shape[0]
    weights = torch.ones(count, device=rows.device) if weights is None else weights.to(rows.device).float()
    _check(rows, clusters, weights)
    if count <= clusters:
        single = tuple((row,) for row in range(count))
        return OrderedClusters(features.clone(), weights, _timestamps(single), single)

    distinct, label_of_row = torch.unique(rows, dim=0, return_inverse=True)
    if len(distinct) < clusters:
        return _padded(features, distinct, label_of_row, clusters)

    generator = torch.Generator().manual_seed(seed)
    if init_rows is None:
        initial = distinct[torch.randperm(len(distinct), generator=generator)[:clusters].to(rows.device)]
    else:
        initial = rows[torch.as_tensor(init_rows, device=rows.device)]
    centroids, labels, totals = lloyd(rows, weights, initial, list(reseed_rows), generator, squared_distances)
    members = members_of(labels, clusters)
    order = sorted((cluster for cluster in range(clusters) if members[cluster]), key=lambda c: _mean(members[c]))
    index = torch.tensor(order, device=rows.device)
    return OrderedClusters(
        centroids[index].to(features.dtype).unflatten(1, features.shape[1:]),
        totals[index],
        _timestamps([members[cluster] for cluster in order]),
        tuple(members[cluster] for cluster in order),
    )


def lloyd(
    rows: Tensor,
    weights: Tensor,
    centroids: Tensor,
    reseed_rows: list[int],
    generator: torch.Generator,
    squared_distances: SquaredDistances | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the published weighted k-means on `rows` [rows, features] from initial `centroids` [clusters, features].

    Returns the centroids, the label of each row [rows] and the weight of each cluster. An empty cluster is reseeded
    with the next of `reseed_rows`, or with a random row. `squared_distances` defaults to A^2 + B^2 - 2AB.
    """
    squared_distances = squared_distances or _expanded_distances
    for _ in range(MAX_ITERATIONS):
        labels = squared_distances(rows, centroids).argmin(1)
        share = torch.nn.functional.one_hot(labels, len(centroids)).T * weights  # [clusters, rows]
        totals = share.sum(1)
        moved = (share @ rows) / totals[:, None]
        for cluster in (totals == 0).nonzero().flatten().tolist():
            row = reseed_rows.pop(0) if reseed_rows else int(torch.randint(len(rows), (), generator=generator))
            moved[cluster] = rows[row]
        if (moved - centroids).norm(dim=1).sum() < CONVERGED_SHIFT:
            break
        centroids = moved
    return centroids, labels, totals


def direct_distances(rows: Tensor, centroids: Tensor) -> Tensor:
    """Squared distances [rows, clusters] computed from differences, exactly zero between equal rows."""
    return torch.stack([(rows - centroid).square().sum(1) for centroid in centroids], dim=1)


def _expanded_distances(rows: Tensor, centroids: Tensor) -> Tensor:
    """Squared distances [rows, clusters] as A^2 + B^2 - 2AB."""
    squared_rows = rows.square().sum(1, keepdim=True)
    return (squared_rows + centroids.square().sum(1) - 2 * rows @ centroids.T).clamp_min(0)


def _padded(features: Tensor, distinct: Tensor, label_of_row: Tensor, clusters: int) -> OrderedClusters:
    """Clusters if there are too few distinct rows: the first rows as padding, then the distinct rows by time."""
    members = sorted(members_of(label_of_row, len(distinct)), key=_mean)
    members = [(row,) for row in range(clusters - len(distinct))] + members
    first_rows = torch.tensor([rows[0] for rows in members], device=features.device)
    return OrderedClusters(
        features[first_rows],
        torch.ones(clusters, device=features.device),
        _timestamps(members),
        tuple(members),
    )


def members_of(labels: Tensor, clusters: int) -> list[tuple[int, ...]]:
    """The rows of each cluster, ascending; `labels` [rows] are the clusters of the rows."""
    members: list[list[int]] = [[] for _ in range(clusters)]
    for row, label in enumerate(labels.tolist()):
        members[label].append(row)
    return [tuple(rows) for rows in members]


def _mean(rows: Sequence[int]) -> float:
    return sum(rows) / len(rows)


def _timestamps(members: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([_mean(rows) for rows in members], dtype=torch.float64)


def _check(rows: Tensor, clusters: int, weights: Tensor) -> None:
    if clusters < 1 or len(rows) < 1:
        raise ValueError(
            f"k-means needs at least one row and one cluster, not {len(rows)} rows and {clusters} clusters"
        )
    if weights.shape != rows.shape[:1] or bool((weights < 0).any()):
        raise ValueError(f"k-means needs one weight, at least 0, for each of {len(rows)} rows")
    if not bool(torch.isfinite(rows).all() and torch.isfinite(weights).all()):
        raise ValueError("k-means needs finite features and weights, but some are NaN or infinite: drop those rows")
