"""What a question asks for beyond the snapshot: the stored clusters behind some of the entries shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .config import FlashMemoryConfig
from .contents import MemoryContents
from .exemplars import Exemplar
from .scoped import ScopedCluster, feature_map
from .shown import ShownMemory, position_times
from .slot import MemoryEntry, MemorySnapshot
from .snapshots import snapshot_from
from .time_ids import memory_clock


def second_look(
    contents: MemoryContents, shown: ShownMemory, entries: Sequence[MemoryEntry], tokens: int, config: FlashMemoryConfig
) -> MemorySnapshot:
    """The clusters behind `entries` of `shown`, first entry first, with at most `tokens` visual tokens.

    The clusters of an entry come as CSM, ordered by time. Where an entry stands for one cluster, which is then shown
    already, its best exemplar comes as DAM instead. A DAM entry stands for the entry whose slots contain its own.
    Entries that are no longer shown are ignored.
    """
    low_tokens = contents.pool.low.shape[1] // config.patches_per_token
    detail_tokens = contents.pool.detail.shape[1]
    clusters: list[ScopedCluster] = []
    dam: list[Exemplar] = []
    for parts in _parts_of(shown, entries):
        if len(parts) == 1:
            fresh = [exemplar for exemplar in parts[0].cluster.exemplars if exemplar not in (*shown.dam, *dam)]
            if fresh and detail_tokens <= tokens:
                dam.append(fresh[0])
                tokens -= detail_tokens
            continue
        nearest_in_budget = sorted(parts, key=lambda part: part.cluster.slots)[: tokens // low_tokens]
        clusters += nearest_in_budget
        tokens -= low_tokens * len(nearest_in_budget)
    return _snapshot(contents, clusters, dam, config)


def _parts_of(shown: ShownMemory, entries: Sequence[MemoryEntry]) -> list[tuple[ScopedCluster, ...]]:
    """The parts behind each of `entries`, each shown cluster once."""
    by_entry = {id(each): each.cluster.entry() for each in shown.clusters}
    exemplars = {exemplar.entry(): exemplar for exemplar in shown.dam}
    found: dict[int, tuple[ScopedCluster, ...]] = {}
    for entry in entries:
        for each in shown.clusters:
            key = exemplars.get(entry)
            if by_entry[id(each)] == entry or (key is not None and _has(each.parts, key)):
                found.setdefault(id(each), each.parts)
    return list(found.values())


def _has(parts: Collection[ScopedCluster], exemplar: Exemplar) -> bool:
    return any(exemplar in part.cluster.exemplars for part in parts)


def _snapshot(
    contents: MemoryContents, clusters: list[ScopedCluster], dam: list[Exemplar], config: FlashMemoryConfig
) -> MemorySnapshot:
    clock = memory_clock(contents.clusters.values(), config)
    clusters = sorted(clusters, key=lambda part: clock.unscaled(*position_times(part.cluster, config)))
    dam = sorted(dam, key=lambda exemplar: exemplar.time_ns)
    return snapshot_from(
        contents,
        dam,
        [part.cluster for part in clusters],
        [feature_map(contents, part) for part in clusters],
        config,
        slots_seen=sum(part.cluster.slots for part in clusters) + len(dam),
        text_slots=0,
    )
