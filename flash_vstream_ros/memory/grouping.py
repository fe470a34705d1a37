"""Reduction of weighted clusters to a few groups, using only their distances.

First the cheapest pairs are merged, as in the stream. Then each cluster moves to the nearest group (Lloyd's algorithm).
The distance to a weighted mean follows from the distances to its parts, so no features are read.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

MAX_ROUNDS = 5  # of reassignment
MIN_RELATIVE_GAIN = 1e-9  # for which a cluster changes its group; rounding gains less


def reduce_to_groups(
    squared: np.ndarray,
    weights: np.ndarray,
    owners: Sequence[Hashable],
    count: int,
    exponent: float = 1.0,
    masses: np.ndarray | None = None,
) -> np.ndarray:
    """Group of each cluster [clusters], numbered by first member; at most `count` groups, but one for each owner.

    `squared` [clusters, clusters] are squared distances, `weights` [clusters] numbers of slots. Clusters of different
    owners never share a group. The cost of a merge grows with the masses of both groups. The mass of a group is the
    `exponent`-th power of its weight, or the greatest of the `masses` [clusters] in it if these are given.
    Deterministic: ties go to the first pair.
    """
    if len(weights) <= count:
        return np.arange(len(weights))
    codes = {owner: code for code, owner in enumerate(dict.fromkeys(owners))}
    own = np.array([codes[owner] for owner in owners])
    same_owner = own[:, None] == own
    labels = _agglomerated(squared, weights, same_owner, max(count, len(codes)), exponent, masses)
    for _ in range(MAX_ROUNDS):
        moved = _reassigned(squared, weights, same_owner, labels)
        if np.array_equal(moved, labels):
            break
        labels = moved
    return _numbered(labels)


def group_distances(squared: np.ndarray, weights: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distances [clusters, groups] of clusters to the weighted means of the groups of `labels` [clusters]."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    totals = np.add.reduceat(weights[order], starts)
    # Sums by group instead of a matrix product, whose threads would compete with those that compute answers.
    to_members = np.add.reduceat(squared[:, order] * weights[order], starts, axis=1) / totals
    within = to_members[np.arange(len(labels)), labels] * weights
    return np.maximum(to_members - np.bincount(labels, within) / totals / 2, 0.0)


def _agglomerated(
    squared: np.ndarray,
    weights: np.ndarray,
    same_owner: np.ndarray,
    count: int,
    exponent: float,
    given_masses: np.ndarray | None,
) -> np.ndarray:
    """Groups after merging the cheapest pairs, numbered from 0."""
    squared, weights = squared.copy(), weights.astype(float)
    masses = weights**exponent if given_masses is None else given_masses.astype(float)
    group = np.arange(len(weights))
    mergeable = same_owner & ~np.eye(len(weights), dtype=bool)
    costs = np.where(mergeable, _cost(masses[:, None], masses, squared), np.inf)
    partner = costs.argmin(1)
    cheapest = costs[group, partner]  # of each row; kept up to date, since scanning the table per merge is slow
    for _ in range(len(weights) - count):
        kept = int(cheapest.argmin())
        absorbed = int(partner[kept])
        share = weights[absorbed] / (weights[kept] + weights[absorbed])
        row = squared[kept] + share * (squared[absorbed] - squared[kept])
        row -= share * (1 - share) * squared[kept, absorbed]
        squared[kept] = squared[:, kept] = np.maximum(row, 0.0)
        weights[kept] += weights[absorbed]
        masses[kept] = weights[kept] ** exponent if given_masses is None else masses[[kept, absorbed]].max()
        group[group == absorbed] = kept
        mergeable[absorbed] = mergeable[:, absorbed] = False
        costs[absorbed] = costs[:, absorbed] = np.inf
        costs[kept] = np.where(mergeable[kept], _cost(masses[kept], masses, squared[kept]), np.inf)
        costs[:, kept] = costs[kept]
        outdated = np.flatnonzero((partner == kept) | (partner == absorbed))
        nearer = costs[kept] < cheapest
        partner[nearer], cheapest[nearer] = kept, costs[kept][nearer]
        outdated = np.append(outdated, [kept, absorbed])
        partner[outdated] = costs[outdated].argmin(1)
        cheapest[outdated] = costs[outdated, partner[outdated]]
    return _numbered(group)


def _reassigned(squared: np.ndarray, weights: np.ndarray, same_owner: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Groups after each cluster moved to the nearest one. Unchanged if a group would lose its last cluster."""
    distances = group_distances(squared, weights, labels)
    first = np.unique(labels, return_index=True)[1]
    distances[~same_owner[:, first]] = np.inf
    here = distances[np.arange(len(labels)), labels]
    nearest = distances.argmin(1)
    gain = here - distances[np.arange(len(labels)), nearest]
    moved = np.where(gain > MIN_RELATIVE_GAIN * here, nearest, labels)
    return moved if len(np.unique(moved)) == len(first) else labels


def _cost(mass: np.ndarray | float, masses: np.ndarray, squared: np.ndarray) -> np.ndarray:
    """Increase of Ward's objective if clusters of `mass` and `masses` are merged."""
    return mass * masses / (mass + masses) * squared


def _numbered(labels: np.ndarray) -> np.ndarray:
    """The same groups, numbered by their first members."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]
