"""Choice of the exemplars that make up the detail augmentation memory (DAM)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .cluster import Cluster
from .exemplars import Exemplar


def choose_dam(
    newest: Iterable[Exemplar], clusters: Collection[Cluster], per_cluster: int, dam_slots: int
) -> list[Exemplar]:
    """Choose the DAM of `clusters`, which are ordered by time.

    If all exemplars fit, all are chosen, ordered by time. Otherwise `newest` come first, then the best exemplar of each
    cluster, heaviest cluster first, then the second best ones, and so on.
    """
    heaviest = sorted(clusters, key=lambda cluster: -cluster.slots)
    ranked = [cluster.exemplars for cluster in heaviest]
    rounds = [own[rank] for rank in range(per_cluster) for own in ranked if rank < len(own)]
    candidates = list(dict.fromkeys([*newest, *rounds]))
    if len(candidates) <= dam_slots:
        return sorted(candidates, key=lambda exemplar: exemplar.time_ns)
    return candidates[:dam_slots]
