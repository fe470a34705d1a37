"""The streaming Flash Memory: bounded, deterministic, and timed by message stamps.

CSM are the clusters of an online Ward clustering over low-resolution maps. Each cluster carries the few slots
nearest to its centroid, its exemplars, and DAM is read off them: no feature bank, no search at question time.
What is published ("Flash Memory" of arXiv 2506.23825) keeps every slot; clip.py has that for clips.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .exemplars import Exemplar, ExemplarPool
from .resizing import merge_clusters, move
from .slot import EntryKind, Grid, MemoryEntry, MemorySnapshot, Slot
from .ward import WardClustering

MERGED_PATCHES = 4  # the merger makes one token of 2x2 patches


@dataclass(frozen=True)
class FlashMemoryConfig:
    """Sizes of the memory, in slots, and its clock."""

    csm_slots: int = 60
    dam_slots: int = 30
    exemplars: int = 2  # slots kept at full detail for each cluster
    horizon_slots: int = 120  # longest time id the model was trained on; later times are scaled to fit; 0: never
    slot_period_ns: int = 2_000_000_000  # stamp length of one slot: 2 / sample_fps
    recent_slots: int = 1  # the newest slots, held in DAM whatever their weight

    def __post_init__(self) -> None:
        if not 1 <= self.dam_slots <= self.csm_slots:
            raise ValueError(f"dam_slots must be from 1 to csm_slots ({self.csm_slots}), not {self.dam_slots}")
        if self.exemplars < 1 or self.slot_period_ns < 1:
            raise ValueError("exemplars and slot_period_ns must be at least 1")
        if self.recent_slots < 0 or self.horizon_slots < 0:
            raise ValueError("recent_slots and horizon_slots must not be negative")


@dataclass(eq=False)
class _Cluster:
    """What the clustering does not know about a cluster. Stamps are summed as integers, so the mean is exact."""

    camera: str
    first_ns: int
    last_ns: int
    stamp_sum: int
    slots: int
    exemplars: list[Exemplar]  # nearest to the centroid first

    @property
    def stamps(self) -> tuple[int, int]:
        """Sum of the stamps, and their number."""
        return self.stamp_sum, self.slots

    def absorb(self, other: _Cluster) -> None:
        self.first_ns = min(self.first_ns, other.first_ns)
        self.last_ns = max(self.last_ns, other.last_ns)
        self.stamp_sum += other.stamp_sum
        self.slots += other.slots
        self.exemplars += other.exemplars


class FlashMemory:
    """Takes in slots of any number of cameras and gives snapshots. One owner; not thread safe.

    A slot's stamp is that of its second frame. All tensors are allocated with the first slot.
    """

    def __init__(self, config: FlashMemoryConfig | None = None) -> None:
        self.config = config or FlashMemoryConfig()
        self.reset()

    def reset(self) -> None:
        """Forget everything; the next slot may have another shape and an earlier stamp."""
        self._ward: WardClustering | None = None
        self._pool: ExemplarPool | None = None
        self._clusters: dict[int, _Cluster] = {}  # by row of the clustering
        self._recent: deque[Exemplar] = deque(maxlen=self.config.recent_slots)
        self._last_ns: dict[str, int] = {}  # newest stamp by camera
        self._grid = Grid(0, 0)
        self._origin_ns = 0
        self._slots_seen = 0

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras seen, in order of appearance."""
        return tuple(self._last_ns)

    @property
    def slots_seen(self) -> int:
        return self._slots_seen

    @property
    def first_ns(self) -> int:
        """Stamp of the oldest frame that the memory stands for [ns]; 0 when empty."""
        return min((cluster.first_ns for cluster in self._clusters.values()), default=0)

    @property
    def last_ns(self) -> int:
        """Stamp of the newest frame that the memory stands for [ns]; 0 when empty."""
        return max(self._last_ns.values(), default=0)

    @property
    def entries(self) -> int:
        """Entries that a snapshot of everything has now."""
        return len(self._clusters) + len(self._dam(self._clusters.values()))

    @property
    def capacity(self) -> int:
        """Most entries there can be."""
        return self.config.csm_slots + self.config.dam_slots

    @property
    def tokens(self) -> int:
        """Visual tokens, after the merger, of a snapshot of everything now."""
        if self._pool is None:
            return 0
        csm_tokens = self._pool.low.shape[1] // MERGED_PATCHES
        dam_tokens = self._pool.detail.shape[1]
        return csm_tokens * len(self._clusters) + dam_tokens * len(self._dam(self._clusters.values()))

    @property
    def bytes(self) -> int:
        """Size of all tensors, preallocated ones as a whole, and of all thumbnails held."""
        if self._ward is None or self._pool is None:
            return 0
        tensors = (*self._ward.tensors, self._pool.low, self._pool.detail)
        thumbnails = sum(len(exemplar.thumbnail) for exemplar in self._held())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + thumbnails

    @torch.no_grad()
    def insert(self, slot: Slot) -> float:
        """Take in a slot; its novelty: 1 - cosine similarity, in [0, 1], with its camera's nearest centroid.

        The first slot of a camera has novelty 1. Raises ValueError, and changes nothing, when features are not
        finite or differ in shape, grid, dtype or device from those held, when stamps do not increase within a camera,
        or when there are more cameras than CSM slots.
        """
        self._check(slot)
        # A tensor made in inference mode could not be updated outside of it.
        with torch.inference_mode(False):
            ward = self._ward or WardClustering(self.config.csm_slots, slot.low.numel(), slot.low.device)
            item = slot.low.flatten()
            finite = slot.low.isfinite().all() & slot.detail.isfinite().all()
            *distances, is_finite = torch.cat([ward.distances(item), finite.float().unsqueeze(0)]).tolist()
            if not is_finite:
                raise ValueError(f"a slot of camera {slot.camera!r} has NaN or infinite features; leave it out")
            pool = self._pool or ExemplarPool(_held_at_most(self.config), slot.low, slot.detail)
            novelty = self._novelty(ward, slot.camera, distances)
            row, merge = ward.insert(item, slot.camera, distances)
            newest = pool.hold(slot)
        if self._pool is None:
            self._ward, self._pool, self._grid, self._origin_ns = ward, pool, slot.grid, slot.last_ns
        self._clusters[row] = _Cluster(slot.camera, slot.first_ns, slot.last_ns, slot.last_ns, 1, [newest])
        self._recent.append(newest)
        if merge:
            merge_clusters(self._clusters, merge, ward, pool, self.config.exemplars)
        pool.keep_only(self._held())
        self._last_ns[slot.camera] = slot.last_ns
        self._origin_ns = min(self._origin_ns, slot.last_ns)
        self._slots_seen += 1
        return novelty

    @torch.no_grad()
    def resize(self, config: FlashMemoryConfig) -> None:
        """Go on with other sizes, or another clock.

        Clusters beyond `csm_slots` are merged by the rule of the stream, and what falls out is freed. Tensors of other
        sizes are allocated once, while the old ones are still there. Raises ValueError when there are more cameras than
        CSM slots, or what torch raises when there is no room; nothing has changed then.
        """
        recent = deque(self._recent, maxlen=config.recent_slots)
        sizes = (config.csm_slots, config.exemplars, config.recent_slots)
        if sizes != (self.config.csm_slots, self.config.exemplars, self.config.recent_slots):
            if len(self._last_ns) > config.csm_slots:
                raise ValueError(f"{len(self._last_ns)} cameras need as many CSM slots, not {config.csm_slots}")
            if self._ward is not None and self._pool is not None:
                with torch.inference_mode(False):
                    moved = move(self._ward, self._pool, self._clusters, recent, config, _held_at_most(config))
                self._ward, self._pool, self._clusters = moved.ward, moved.pool, moved.clusters
                recent = deque((moved.exemplars[exemplar] for exemplar in recent), maxlen=config.recent_slots)
        self.config, self._recent = config, recent

    @torch.no_grad()
    def snapshot(self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0) -> MemorySnapshot:
        """What the memory holds of `cameras` (none given: all) between two stamps (0: no bound).

        A cluster is in when any of its time is; a DAM slot only when its own time is. `slots_seen` counts the
        slots of the clusters that are in. Time ids keep the origin and the scale of the whole memory.
        """

        def wanted(part: Exemplar | _Cluster) -> bool:
            begun = not until_ns or part.first_ns <= until_ns
            return (not cameras or part.camera in cameras) and part.last_ns >= since_ns and begun

        rows = [row for row in self._by_time() if wanted(self._clusters[row])]
        clusters = [self._clusters[row] for row in rows]
        dam = self._dam(clusters, wanted)
        if self._ward is None or self._pool is None:
            csm_features = dam_features = torch.zeros(0, 0, 0)
        else:
            low = self._pool.low
            index = torch.tensor(rows, dtype=torch.long, device=low.device)
            csm_features = self._ward.centroids[index].to(low.dtype).unflatten(1, low.shape[1:])
            dam_features = self._pool.details(dam)
        slots = sum(cluster.slots for cluster in clusters)
        return MemorySnapshot(
            dam=dam_features,
            dam_times=self._times((exemplar.last_ns, 1) for exemplar in dam),
            csm=csm_features,
            csm_times=self._times(cluster.stamps for cluster in clusters),
            grid=self._grid,
            entries=(*map(_dam_entry, dam), *map(_csm_entry, clusters)),
            slots_seen=slots,
            text_slots=min(slots, self.config.csm_slots),
        )

    def _by_time(self) -> list[int]:
        """Rows of the clusters by mean stamp; equal ones as they were born."""
        rows = self._ward.rows if self._ward else []
        return sorted(rows, key=lambda row: self._slots_since_origin(*self._clusters[row].stamps))

    def _dam(
        self, clusters: Collection[_Cluster], wanted: Callable[[Exemplar], bool] = lambda _: True
    ) -> list[Exemplar]:
        """The DAM of `clusters`, given by time: all held slots, by time, where they fit.

        Else the newest, then the best exemplar of each cluster, heaviest first, then the second best, and so on.
        """
        newest = [exemplar for exemplar in reversed(self._recent) if wanted(exemplar)]
        heaviest = sorted(clusters, key=lambda cluster: -cluster.slots)
        ranked = [[exemplar for exemplar in cluster.exemplars if wanted(exemplar)] for cluster in heaviest]
        rounds = [own[rank] for rank in range(self.config.exemplars) for own in ranked if rank < len(own)]
        candidates = list(dict.fromkeys(newest + rounds))
        if len(candidates) <= self.config.dam_slots:
            return sorted(candidates, key=lambda exemplar: exemplar.last_ns)
        return candidates[: self.config.dam_slots]

    def _slots_since_origin(self, stamp_sum: int, stamps: int) -> float:
        """The mean of `stamps` stamps, unscaled; integers until the division, so exact to the nanosecond."""
        return (stamp_sum - stamps * self._origin_ns) / (stamps * self.config.slot_period_ns)

    def _times(self, sums: Iterable[tuple[int, int]]) -> Tensor:
        """Time ids (float64) of mean stamps, each given as a sum of stamps and their number."""
        span = self._slots_since_origin(self.last_ns, 1)
        scale = self.config.horizon_slots / span if span > self.config.horizon_slots > 0 else 1.0
        times = [self._slots_since_origin(stamp_sum, stamps) * scale for stamp_sum, stamps in sums]
        return torch.tensor(times, dtype=torch.float64)

    def _novelty(self, ward: WardClustering, camera: str, distances: list[float]) -> float:
        own = [row for row, cluster in self._clusters.items() if cluster.camera == camera]
        if not own:
            return 1.0
        nearest = min(own, key=distances.__getitem__)
        norm, centroid_norm = distances[-1], ward.squared_norm(nearest)
        if not norm or not centroid_norm:
            return float(norm != centroid_norm)
        cosine = (norm + centroid_norm - distances[nearest]) / (2 * math.sqrt(norm * centroid_norm))
        return min(1.0, max(0.0, 1.0 - cosine))

    def _held(self) -> set[Exemplar]:
        return {*self._recent, *(exemplar for cluster in self._clusters.values() for exemplar in cluster.exemplars)}

    def _check(self, slot: Slot) -> None:
        """Raise ValueError for what can be told without reading a tensor."""
        where = f"a slot of camera {slot.camera!r}"
        for name, features in (("low", slot.low), ("detail", slot.detail)):
            if features.dim() != 2 or features.numel() == 0 or not features.is_floating_point():
                raise ValueError(f"{where}: {name} must be a non-empty floating point matrix, not {_kind(features)}")
            held = getattr(self._pool, name)[0] if self._pool else None
            if held is not None and _kind(features) != _kind(held):
                raise ValueError(
                    f"{where}: {name} is {_kind(features)}, the memory holds {_kind(held)}; reset it to change"
                )
        if self._pool and slot.grid != self._grid:
            raise ValueError(f"{where} has {slot.grid}, the memory holds {self._grid}; reset it to change")
        if slot.low.shape[0] % MERGED_PATCHES:
            raise ValueError(f"{where}: the merger needs low patches by {MERGED_PATCHES}, not {slot.low.shape[0]}")
        if slot.low.device != slot.detail.device:
            raise ValueError(f"{where}: low is on {slot.low.device}, but detail on {slot.detail.device}")
        if slot.first_ns > slot.last_ns:
            raise ValueError(f"{where} ends at {slot.last_ns} ns, before it starts at {slot.first_ns} ns")
        last_ns = self._last_ns.get(slot.camera, slot.first_ns - 1)
        if slot.first_ns <= last_ns:
            raise ValueError(
                f"{where} starts at {slot.first_ns} ns, not after {last_ns} ns, the newest stamp in memory; "
                "leave it out, or reset the memory when time has jumped back"
            )


def _held_at_most(config: FlashMemoryConfig) -> int:
    """Rows for the exemplars of full clusters, the recent slots, and one that enters before another leaves."""
    return config.csm_slots * config.exemplars + config.recent_slots + 1


def _kind(features: Tensor) -> str:
    return f"{list(features.shape)} {features.dtype} on {features.device}"


def _dam_entry(exemplar: Exemplar) -> MemoryEntry:
    return MemoryEntry(
        kind=EntryKind.DAM,
        camera=exemplar.camera,
        frame_id=exemplar.frame_id,
        first_ns=exemplar.first_ns,
        last_ns=exemplar.last_ns,
        weight=1.0,
        thumbnail=exemplar.thumbnail,
        thumbnail_ns=exemplar.last_ns,
    )


def _csm_entry(cluster: _Cluster) -> MemoryEntry:
    best = cluster.exemplars[0]
    return MemoryEntry(
        kind=EntryKind.CSM,
        camera=cluster.camera,
        frame_id=best.frame_id,
        first_ns=cluster.first_ns,
        last_ns=cluster.last_ns,
        weight=float(cluster.slots),
        thumbnail=best.thumbnail,
        thumbnail_ns=best.last_ns,
    )
