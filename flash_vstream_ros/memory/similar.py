"""Finds the stored slots that look like an image, by the cosine between low-resolution maps."""

from __future__ import annotations

import torch
from torch import Tensor

from .contents import MemoryContents
from .scope import Scope
from .slot import MemoryEntry


def most_similar(contents: MemoryContents, low: Tensor, scope: Scope) -> list[tuple[MemoryEntry, float]]:
    """For each cluster, its exemplar in `scope` that is most similar to `low` [low_patches, dim], with the cosine."""
    groups = [inside for row, _ in contents.by_age if (inside := scope.select(contents.exemplars_of(row)))]
    slots = [exemplar for group in groups for exemplar in group]
    if not slots:
        return []
    rows = torch.tensor([exemplar.row for exemplar in slots], dtype=torch.long, device=contents.pool.low.device)
    cosines = iter(centred_cosines(contents.pool.low[rows].flatten(1).float(), low))
    found = []
    for group in groups:
        cosine, best = max(((next(cosines), place) for place in range(len(group))), key=lambda pair: pair[0])
        found.append((group[best].entry(), cosine))
    return found


def centred_cosines(maps: Tensor, low: Tensor) -> list[float]:
    """Cosine between each of `maps` [slots, low_patches * dim] and `low` [low_patches, dim].

    The mean of `maps` is subtracted from both: it is common to all views, and would make all cosines nearly one.
    """
    mean = maps.mean(0)
    query = low.to(maps.device).flatten().float() - mean
    cosines: list[float] = torch.cosine_similarity(maps - mean, query[None], dim=1).tolist()
    return cosines
