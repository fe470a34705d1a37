"""Second look: the stored clusters behind the entries of a snapshot that a question attends to most."""

from __future__ import annotations

from collections.abc import Sequence

from .config import BY_AGE, FlashMemoryConfig
from .contents import MemoryContents
from .exemplars import Exemplar
from .scoped import ScopedCluster, feature_map, is_transient
from .slot import MemoryEntry, MemorySnapshot
from .snapshot_entries import SnapshotEntries, position_times
from .snapshots import snapshot_from
from .time_ids import MemoryClock


def second_look(
    contents: MemoryContents,
    first_look: SnapshotEntries,
    entries: Sequence[MemoryEntry],
    tokens: int,
    config: FlashMemoryConfig,
    clock: MemoryClock,
) -> MemorySnapshot:
    """The clusters behind `entries` of the first look, first entry first, with at most `tokens` visual tokens.

    The clusters of a CSM entry become CSM, ordered by time. If the entry consists of a single cluster, the snapshot
    has that cluster already, and its best exemplar becomes DAM instead. A DAM entry counts as the CSM entry that
    contains its slot.

    If a CSM entry has changed since the snapshot, it is found by its thumbnail's slot. Entries whose slot was removed
    are ignored.
    """
    low_tokens = contents.pool.low.shape[1] // config.patches_per_token
    detail_tokens = contents.pool.detail.shape[1]
    by_age = config.grouping == BY_AGE
    clusters: list[ScopedCluster] = []
    dam: list[Exemplar] = []
    for parts in _parts_of(contents, first_look, entries):
        if len(parts) == 1:
            fresh = [exemplar for exemplar in parts[0].cluster.exemplars if exemplar not in (*first_look.dam, *dam)]
            if fresh and detail_tokens <= tokens:
                dam.append(fresh[0])
                tokens -= detail_tokens
            continue
        first = sorted(parts, key=lambda part: (by_age and is_transient(contents, part), part.cluster.slots))
        in_budget = first[: tokens // low_tokens]
        clusters += in_budget
        tokens -= low_tokens * len(in_budget)
    return _snapshot(contents, clusters, dam, config, clock)


def _parts_of(
    contents: MemoryContents, first_look: SnapshotEntries, entries: Sequence[MemoryEntry]
) -> list[tuple[ScopedCluster, ...]]:
    """The parts behind each of `entries`, each CSM entry of the first look once."""
    entry_places = {each.cluster.entry(): place for place, each in enumerate(first_look.csm)}
    slot_places: dict[tuple[str, int], int] = {}  # by camera and stamp of the thumbnail
    for place, each in enumerate(first_look.csm):
        for part in each.parts:
            recent = [exemplar for exemplar, row in contents.recent.items() if row == part.row]
            slot_places |= {(one.camera, one.thumbnail_ns): place for one in (*part.cluster.exemplars, *recent)}
    places = (entry_places.get(entry, slot_places.get((entry.camera, entry.thumbnail_ns))) for entry in entries)
    return [first_look.csm[place].parts for place in dict.fromkeys(places) if place is not None]


def _snapshot(
    contents: MemoryContents,
    clusters: list[ScopedCluster],
    dam: list[Exemplar],
    config: FlashMemoryConfig,
    clock: MemoryClock,
) -> MemorySnapshot:
    clusters = sorted(clusters, key=lambda part: clock.unscaled(*position_times(part.cluster, config)))
    dam = sorted(dam, key=lambda exemplar: exemplar.time_ns)
    return snapshot_from(
        contents,
        dam,
        [part.cluster for part in clusters],
        [feature_map(contents, part) for part in clusters],
        config,
        clock,
        slots_seen=sum(part.cluster.slots for part in clusters) + len(dam),
        text_slots=0,
    )
