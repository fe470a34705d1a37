"""Choice of the exemplars that make up the detail augmentation memory (DAM)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from .cluster import Cluster
from .exemplars import Exemplar

RARE_SHARE = 0.5  # share of the key frames, not counting the newest, for light but stable clusters
CROWDING = 8  # rare key frames are at least (mean spacing / CROWDING) apart in time


def choose_dam(
    newest: Iterable[Exemplar], clusters: Collection[Cluster], per_cluster: int, dam_slots: int
) -> list[Exemplar]:
    """Choose the DAM of `clusters`, which are ordered by time.

    If all exemplars fit, all are chosen, ordered by time. Otherwise `newest` come first, then the best exemplar of each
    cluster, heaviest cluster first, then the second best ones, and so on.
    """
    candidates = list(dict.fromkeys([*newest, *_rounds(clusters, per_cluster)]))
    if len(candidates) <= dam_slots:
        return sorted(candidates, key=lambda exemplar: exemplar.time_ns)
    return candidates[:dam_slots]


def choose_key_frames(
    newest: Sequence[Exemplar], clusters: Collection[Cluster], rare: Sequence[Exemplar], dam_slots: int
) -> list[Exemplar]:
    """Choose the DAM of a hierarchical memory, ordered by time so that an exemplar keeps its place in the prompt.

    `newest` come first. Then a share of the slots goes to `rare`, rarest first and spread over the time of the stream.
    The remaining slots go to the best exemplar of each cluster, heaviest cluster first, then to second best ones, etc.
    """
    chosen = dict.fromkeys(newest[:dam_slots])
    remaining = dam_slots - len(chosen)
    spread = _spread(rare, clusters, int(RARE_SHARE * remaining))
    most = max((len(cluster.exemplars) for cluster in clusters), default=0)
    for exemplar in (*spread, *_rounds(clusters, most)):
        if len(chosen) < dam_slots:
            chosen[exemplar] = None
    return sorted(chosen, key=lambda exemplar: exemplar.time_ns)


def _rounds(clusters: Collection[Cluster], per_cluster: int) -> list[Exemplar]:
    """The best exemplar of each cluster, heaviest cluster first, then the second best ones, up to `per_cluster`."""
    ranked = [cluster.exemplars for cluster in sorted(clusters, key=lambda cluster: -cluster.slots)]
    return [own[rank] for rank in range(per_cluster) for own in ranked if rank < len(own)]


def _spread(rare: Sequence[Exemplar], clusters: Collection[Cluster], count: int) -> list[Exemplar]:
    """Up to `count` of `rare`, in their order. Their least distance in time grows with the age of the stream."""
    if not count or not clusters:
        return []
    age_ns = max(cluster.newest[0] for cluster in clusters) - min(cluster.oldest_ns for cluster in clusters)
    spacing_ns = age_ns / (CROWDING * count)
    chosen: list[Exemplar] = []
    for exemplar in rare:
        if len(chosen) < count and all(abs(exemplar.time_ns - other.time_ns) >= spacing_ns for other in chosen):
            chosen.append(exemplar)
    return chosen
