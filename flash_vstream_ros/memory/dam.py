"""Which of the slots held at full detail are the detail augmentation memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .cluster import Cluster
from .exemplars import Exemplar


def choose_dam(
    newest: Iterable[Exemplar], clusters: Collection[Cluster], per_cluster: int, dam_slots: int
) -> list[Exemplar]:
    """The DAM of `clusters`, given by time: all held slots, by time, where they fit.

    Else `newest`, then the best exemplar of each cluster, heaviest first, then the second best, and so on.
    """
    heaviest = sorted(clusters, key=lambda cluster: -cluster.slots)
    ranked = [cluster.exemplars for cluster in heaviest]
    rounds = [own[rank] for rank in range(per_cluster) for own in ranked if rank < len(own)]
    candidates = list(dict.fromkeys([*newest, *rounds]))
    if len(candidates) <= dam_slots:
        return sorted(candidates, key=lambda exemplar: exemplar.time_ns)
    return candidates[:dam_slots]
