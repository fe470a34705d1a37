"""The moment of a search that tells best where something is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MOMENTS = 5  # moments of a search among which the best place is looked for
LEAST_RELEVANCE = 0.5  # of a moment with a known pose, as a share of the best moment's relevance


def best_place(moments: Sequence[Any]) -> Any:
    """The best of `moments` (MemoryEntry, best first) that has a known pose.

    It is the best moment of all if no other one with a pose is at least half as relevant: then its pose is unknown.
    """
    best = moments[0]
    relevant = (each for each in moments if each.relevance >= LEAST_RELEVANCE * best.relevance)
    return next((each for each in relevant if each.pose_known), best)
