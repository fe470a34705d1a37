"""Neighbourhoods in the token maps of slots, connected regions, and Otsu's threshold."""

from __future__ import annotations

import torch
from torch import Tensor

from .token_slot import unit
from .token_snapshot import TokenMap

OFFSETS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]


def neighbour_cosines(detail: Tensor, other: Tensor, tokens: TokenMap) -> Tensor:
    """Largest cosine of each token of `detail` to the 3x3 tokens around its place in `other`, both whole slots.

    Both are [tokens, width]; returns [tokens] float32.
    """
    own, padded = (unit(each).unflatten(0, tokens) for each in (detail, other))
    padded = torch.nn.functional.pad(padded, (0, 0, 1, 1, 1, 1))  # [planes, rows + 2, columns + 2, width]
    inside = torch.nn.functional.pad(own.new_ones(tokens), (1, 1, 1, 1)) > 0
    best = own.new_full(tokens, -torch.inf)
    for row, column in OFFSETS:
        window = (
            slice(None),
            slice(1 + row, 1 + row + tokens.rows),
            slice(1 + column, 1 + column + tokens.columns),
        )
        cosines = (own * padded[window]).sum(-1).masked_fill(~inside[window], -torch.inf)
        best = torch.maximum(best, cosines)
    return best.flatten()


def neighbour_pairs(places: Tensor, tokens: TokenMap) -> tuple[Tensor, Tensor]:
    """Pairs of the tokens at `places` that touch in the map, also at corners, as two lists of indices in `places`."""
    index = torch.full((tokens.planes, tokens.rows + 2, tokens.columns + 2), -1)
    plane, place = places // (tokens.rows * tokens.columns), places % (tokens.rows * tokens.columns)
    row, column = place // tokens.columns + 1, place % tokens.columns + 1
    index[plane, row, column] = torch.arange(len(places))
    first, second = [], []
    for down, right in [offset for offset in OFFSETS if offset > (0, 0)]:  # each pair once
        other = index[plane, row + down, column + right]
        first.append((other >= 0).nonzero().flatten())
        second.append(other[other >= 0])
    return torch.cat(first), torch.cat(second)


def connected(count: int, first: Tensor, second: Tensor) -> Tensor:
    """The region [count] of each of `count` tokens, as its lowest token, if `first` and `second` are connected."""
    regions = torch.arange(count)
    while True:
        lower = torch.minimum(regions[first], regions[second])
        found = regions.scatter_reduce(0, first, lower, "amin").scatter_reduce(0, second, lower, "amin")
        if torch.equal(found, regions):
            return regions
        regions = found


def merged(detail: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """`detail` [tokens, width] with the mean of each region at its anchor, and the anchors [regions].

    `regions` [tokens], on the CPU, are numbers from 0. An anchor is the token nearest to its region's mean.
    """
    own, count = detail.double().cpu(), int(regions.max()) + 1  # in double, the two tokens of a pair are equally near
    means = own.new_zeros(count, own.shape[1]).index_add(0, regions, own) / regions.bincount()[:, None]
    errors = (own - means[regions]).square().sum(1)
    least = errors.new_full((count,), torch.inf).scatter_reduce(0, regions, errors, "amin")
    places = torch.where(errors == least[regions], torch.arange(len(own)), len(own))
    anchors = torch.full((count,), len(own)).scatter_reduce(0, regions, places, "amin")
    found = detail.clone()
    found[anchors.to(detail.device)] = means.to(detail.device, detail.dtype)
    return found, anchors


def otsu(values: Tensor) -> float | None:
    """The smallest of the larger `values`, if these are split into two groups with the largest between-class variance.

    None if all are equal (Otsu, "A Threshold Selection Method from Gray-Level Histograms").
    """
    ordered = values.double().sort().values
    if len(ordered) < 2 or ordered[0] == ordered[-1]:
        return None
    count = torch.arange(1, len(ordered), dtype=torch.float64)
    sums = ordered.cumsum(0)
    lower, upper = sums[:-1] / count, (sums[-1] - sums[:-1]) / (len(ordered) - count)
    variance = count * (len(ordered) - count) * (lower - upper).square()
    variance[ordered[1:] == ordered[:-1]] = -1.0  # equal values stay together
    return float(ordered[int(variance.argmax()) + 1])
