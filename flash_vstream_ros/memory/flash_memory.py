"""The streaming Flash Memory: bounded, deterministic, and timed by message stamps.

CSM are the clusters of an online Ward clustering over low-resolution maps. Each cluster carries the few slots
nearest to its centroid, its exemplars, and DAM is read off them: no feature bank, no search at question time.
What is published ("Flash Memory" of arXiv 2506.23825) keeps every slot; clip.py has that for clips.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .admission import check, check_stay
from .cluster import Cluster, held
from .config import FlashMemoryConfig
from .dam import choose_dam
from .episodes import EpisodeTime, FirstView
from .exemplars import Exemplar, ExemplarPool, newest_of_each
from .interface import Forgotten
from .resizing import Holdings
from .slot import Grid, MemoryEntry, MemorySnapshot, Slot, Stay
from .spans import ALWAYS, Interval, touched
from .time_ids import TimeIds, text_slots
from .ward import WardClustering


class _Portion(NamedTuple):
    """What may be seen of a cluster: all of it, in `row` of the clustering, or some of the slots held of it."""

    cluster: Cluster
    row: int | None


class FlashMemory:
    """Takes in slots of any number of cameras and gives snapshots. One owner; not thread safe.

    `config` has the sizes in use: where they follow from a budget of tokens, the first slot decides them.

    A slot's stamp is that of its second frame. Tensors are allocated with the first slot of all and, for what each
    camera saw last, with the first slot of a further camera.
    """

    def __init__(self, config: FlashMemoryConfig | None = None) -> None:
        self._wanted = self.config = config or FlashMemoryConfig()
        self._revision = -1
        self.reset()

    def reset(self) -> None:
        """Forget everything; the next slot may have another shape and an earlier stamp."""
        self.config = self._wanted
        self._ward: WardClustering | None = None
        self._pool: ExemplarPool | None = None
        self._clusters: dict[int, Cluster] = {}  # by row of the clustering
        self._recent: dict[Exemplar, int] = {}  # the newest of each camera, oldest first, with their clusters' rows
        self._episodes = EpisodeTime()
        self._grid = Grid(0, 0)
        self._slots_seen = 0
        self._revision += 1

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras that the memory holds something of, in order of appearance."""
        return tuple(dict.fromkeys(self._clusters[row].camera for row in self._rows))

    @property
    def slots_seen(self) -> int:
        """Slots taken in since the start or the last reset, forgotten ones included."""
        return self._slots_seen

    @property
    def revision(self) -> int:
        """How often anything was forgotten or reset."""
        return self._revision

    @property
    def version(self) -> tuple[int, FlashMemoryConfig, int]:
        """Equal as long as a snapshot would be the same. Its last part alone changes with a further slot."""
        return self._revision, self.config, self._slots_seen

    @property
    def clock(self) -> TimeIds:
        """By which a snapshot is timed now."""
        return self._time_ids()

    @property
    def first_ns(self) -> int:
        """Stamp of the oldest frame that the memory stands for [ns]; 0 when empty."""
        return min((cluster.first_ns for cluster in self._clusters.values()), default=0)

    @property
    def last_ns(self) -> int:
        """Stamp of the newest frame that the memory stands for [ns]; 0 when empty."""
        return max((cluster.last_ns for cluster in self._clusters.values()), default=0)

    @property
    def newest(self) -> tuple[int, int]:
        """Time and stamp of the slot that comes last in the order of the memory [ns]; zeros when empty."""
        return max((cluster.newest for cluster in self._clusters.values()), default=(0, 0))

    def newest_of(self, camera: str) -> tuple[int, int] | None:
        """`newest` of one camera; None where the memory holds nothing of it."""
        return max((c.newest for c in self._clusters.values() if c.camera == camera), default=None)

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
        csm_tokens = self._pool.low.shape[1] // self.config.patches_per_token
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
        finite or differ in shape, grid, dtype or device from those held, when times do not increase within a camera,
        or when there are more cameras than CSM slots.
        """
        check(slot, self._pool, self._grid, self.newest_of(slot.camera), self.config.patches_per_token)
        if self._ward is None:
            self.config = _fitted(self._wanted, slot.low, slot.detail)
        # A tensor made in inference mode could not be updated outside of it.
        with torch.inference_mode(False):
            ward = self._ward or WardClustering(self.config.csm_slots, slot.low.numel(), slot.low.device)
            item = slot.low.flatten()
            finite = slot.low.isfinite().all() & slot.detail.isfinite().all()
            *distances, is_finite = torch.cat([ward.distances(item), finite.float().unsqueeze(0)]).tolist()
            if not is_finite:
                raise ValueError(f"a slot of camera {slot.camera!r} has NaN or infinite features; leave it out")
            pool = self._pool_for(slot)
            if not self._clusters:
                self._episodes = self._measured_from(FirstView.of(slot, distances[-1]), self.config)
            novelty = self._novelty(ward, slot.camera, distances)
            row, merge = ward.insert(item, slot.camera, self._apart(distances, (slot.time_ns, 1)))
            newest = pool.hold(slot)
        self._ward, self._pool, self._grid = ward, pool, slot.grid
        self._clusters[row] = Cluster.of([newest])
        self._recent = newest_of_each({**self._recent, newest: row}, self.config.recent_slots)
        if merge:
            self._recent = Holdings(ward, pool, self._clusters, self._recent).merged(merge, self.config.exemplars)
        pool.keep_only(self._held())
        self._slots_seen += 1
        return novelty

    @torch.no_grad()
    def stay(self, camera: str, stay: Stay) -> None:
        """Let the newest slot of `camera` go on: its cluster gains weight and time, and all features stay.

        What is forgotten of the time of `stay` takes the slot with it. Raises ValueError, and changes nothing, when
        nothing of the camera is held, or nothing that is older.
        """
        check_stay(camera, stay, self.newest_of(camera))
        assert self._ward is not None
        own = [row for row, cluster in self._clusters.items() if cluster.camera == camera]
        row = max(own, key=lambda row: self._clusters[row].newest)
        cluster = self._clusters[row]
        before = self._episodes.squares(self._times()) if self._episodes.slot_apart else None
        moved = {e: e.staying(stay) for e in self._held_of(row) if e.time_ns == cluster.newest[0]}
        self._recent = {moved.get(exemplar, exemplar): at for exemplar, at in self._recent.items()}
        cluster.stay(stay, moved)
        self._ward.gain(row, stay.slots)
        if before is not None:
            self._ward.add(self._episodes.squares(self._times()) - before)
        self._slots_seen += stay.slots

    @torch.no_grad()
    def forget(self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0) -> Forgotten:
        """Forget what `cameras` (none given: all) saw between two stamps (0: no bound).

        A centroid is a sum over slots that cannot be told apart again. So a cluster that may hold a slot which
        reaches into the interval is made anew of those of its slots that are held exactly, its exemplars and the
        newest ones, and lie outside; it goes when there are none. Clusters that hold no such slot stay as they are.
        Memory that is not in use is overwritten: afterwards no tensor, thumbnail or stamp stems from the interval, and
        time is measured from the first view that is left.
        """
        if self._ward is None or self._pool is None:
            return Forgotten()
        interval, before = Interval(since_ns, until_ns), list(self._clusters.items())
        with torch.inference_mode(False):
            for row, cluster in before:
                if _concerns(cluster.camera, cameras) and touched(cluster.spans, interval):
                    left = [e for e in self._held_of(row) if not interval.touches(e.first_ns, e.last_ns)]
                    if len(left) < cluster.slots:
                        self._make_anew(row, left, self._ward, self._pool)
            self._pool.keep_only(self._held())
            first = self._episodes.first
            if _concerns(first.camera, cameras) and interval.touches(first.first_ns, first.last_ns):
                self._measure(self._measured_from(self._first_held(self._pool), self.config), self._ward)
            self._pool.wipe_free()
            self._ward.wipe_free()
        after = [self._clusters.get(row) for row, _ in before]
        lost = sum(cluster.slots for _, cluster in before) - sum(cluster.slots for cluster in after if cluster)
        rebuilt = sum(now is not None and now is not then for now, (_, then) in zip(after, before, strict=True))
        self._revision += lost > 0
        return Forgotten(lost, after.count(None), rebuilt)

    @torch.no_grad()
    def resize(self, config: FlashMemoryConfig) -> None:
        """Go on with other sizes, or another clock.

        Clusters beyond `csm_slots` are merged by the rule of the stream, and what falls out is freed. Tensors of other
        sizes are allocated once, while the old ones are still there. Raises ValueError when there are more cameras than
        CSM slots, or what torch raises when there is no room; nothing has changed then.
        """
        wanted = config
        if self._pool is not None:
            config = _fitted(wanted, self._pool.low[0], self._pool.detail[0])
        if len(self.cameras) > config.csm_slots:
            raise ValueError(f"{len(self.cameras)} cameras need as many CSM slots, not {config.csm_slots}")
        if self._ward is not None and self._pool is not None:
            with torch.inference_mode(False):
                holdings = Holdings(self._ward, self._pool, self._clusters, self._recent)
                room = holdings.room(config) if config.rows != self.config.rows else None
                self._measure(self._measured_from(self._episodes.first, config), self._ward)
                if room is not None:
                    self._ward, self._pool, self._clusters, self._recent = holdings.moved(*room, config)
        self._wanted, self.config = wanted, config

    @torch.no_grad()
    def snapshot(self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0) -> MemorySnapshot:
        """What the memory holds of `cameras` (none given: all) between two stamps (0: no bound).

        A slot is in when it reaches into the interval. A cluster that lies in it shows its centroid; one that lies
        in it in part shows the mean of those of its slots that are in and held exactly, and nothing where there are
        none, since its centroid would show the rest of it. `slots_seen` counts the slots that are shown or averaged.
        Time ids keep the origin and the scale of the whole memory.
        """
        interval = Interval(since_ns, until_ns)
        portions = self._portions(cameras, interval)
        clusters = [portion.cluster for portion in portions]
        dam = self._dam(clusters, cameras, interval)
        if self._ward is None or self._pool is None:
            csm_features = dam_features = torch.zeros(0, 0, 0)
        else:
            low = self._pool.low
            shown = [self._features(portion, self._ward, self._pool) for portion in portions]
            flat = torch.stack(shown) if shown else self._ward.centroids[:0]
            csm_features = flat.to(low.dtype).unflatten(1, low.shape[1:])
            dam_features = self._pool.details(dam)
        slots, time_ids = sum(cluster.slots for cluster in clusters), self._time_ids()
        return MemorySnapshot(
            dam=dam_features,
            dam_times=time_ids.of((exemplar.time_ns, 1) for exemplar in dam),
            csm=csm_features,
            csm_times=time_ids.of(self._told(cluster) for cluster in clusters),
            grid=self._grid,
            entries=_entries(dam, clusters),
            slots_seen=slots,
            text_slots=text_slots(time_ids, slots, self.config),
            newest_ns=self.newest[1],
            slot_s=self.config.slot_period_ns * 1e-9,
            time_scale=time_ids.scale,
        )

    @torch.no_grad()
    def newer(self, clock: TimeIds, count: int) -> MemorySnapshot:
        """Up to `count` slots that came after the newest one of `clock`, in detail and timed by it, oldest first.

        The newest of those that are held by themselves: DAM alone, as what continues a snapshot of that clock.
        """
        found = sorted((e for e in self._held() if e.time_ns > clock.newest_ns), key=lambda exemplar: exemplar.time_ns)
        dam = found[max(0, len(found) - count) :]
        return MemorySnapshot(
            dam=self._pool.details(dam) if self._pool else torch.zeros(0, 0, 0),
            dam_times=clock.of((exemplar.time_ns, 1) for exemplar in dam),
            csm=torch.zeros(0, 0, 0),
            csm_times=clock.of(()),
            grid=self._grid,
            entries=_entries(dam, ()),
            slots_seen=len(dam),
            text_slots=0,
        )

    def lies_within(self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0) -> bool:
        """Whether a snapshot with these bounds is that of everything."""
        interval = Interval(since_ns, until_ns)
        return all(
            _concerns(c.camera, cameras) and interval.covers(c.first_ns, c.last_ns) for c in self._clusters.values()
        )

    def listed(self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0) -> tuple[MemoryEntry, ...]:
        """The entries of `snapshot`, without its tensors."""
        interval = Interval(since_ns, until_ns)
        clusters = [portion.cluster for portion in self._portions(cameras, interval)]
        return _entries(self._dam(clusters, cameras, interval), clusters)

    def saw(self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0) -> bool:
        """Whether it may hold anything of what `snapshot` would show, if only in a sum with other things."""
        interval = Interval(since_ns, until_ns)
        return any(_concerns(c.camera, cameras) and touched(c.spans, interval) for c in self._clusters.values())

    @property
    def _rows(self) -> list[int]:
        """Rows of the clusters, first born first."""
        return self._ward.rows if self._ward else []

    def _make_anew(self, row: int, slots: list[Exemplar], ward: WardClustering, pool: ExemplarPool) -> None:
        """Let a cluster be that of `slots` alone, some of those held of it; of none: free its row."""
        self._recent = {e: at for e, at in self._recent.items() if at != row or e in slots}
        if slots:
            mean, cluster = pool.mean(slots), Cluster.of(slots)
            ward.replace(row, mean, len(slots), self._apart(ward.distances(mean).tolist(), cluster.times))
            self._clusters[row] = cluster
            self._clusters[row].exemplars = pool.nearest(slots, ward.centroids[row], self.config.exemplars)
        else:
            ward.remove(row)
            del self._clusters[row]

    def _portions(self, cameras: Collection[str], interval: Interval) -> list[_Portion]:
        """What of each cluster may be seen, by the time that is told of it; equal ones as they were born."""
        portions = []
        for row in self._rows:
            cluster = self._clusters[row]
            if not _concerns(cluster.camera, cameras):
                continue
            if interval.covers(cluster.first_ns, cluster.last_ns):
                portions.append(_Portion(cluster, row))
            elif inside := [e for e in self._held_of(row) if interval.touches(e.first_ns, e.last_ns)]:
                portions.append(_Portion(Cluster.of(inside), None))
        time_ids = self._time_ids()
        return sorted(portions, key=lambda portion: time_ids.unscaled(*self._told(portion.cluster)))

    def _features(self, portion: _Portion, ward: WardClustering, pool: ExemplarPool) -> Tensor:
        """What the model is shown for a portion [low_patches * dim], float32."""
        return pool.mean(portion.cluster.exemplars) if portion.row is None else ward.centroids[portion.row]

    def _dam(
        self, clusters: Collection[Cluster], cameras: Collection[str] = (), interval: Interval = ALWAYS
    ) -> list[Exemplar]:
        """The DAM of what may be seen of `clusters`, given by time."""
        newest = [
            exemplar
            for exemplar in sorted(self._recent, key=lambda exemplar: -exemplar.time_ns)
            if _concerns(exemplar.camera, cameras) and interval.touches(exemplar.first_ns, exemplar.last_ns)
        ]
        return choose_dam(newest, clusters, self.config.exemplars, self.config.dam_slots)

    def _time_ids(self) -> TimeIds:
        origin_ns = min((cluster.oldest_ns for cluster in self._clusters.values()), default=0)
        return TimeIds(origin_ns, self.newest[0], self.config.slot_period_ns, self.config.horizon_slots)

    def _told(self, cluster: Cluster) -> tuple[int, int]:
        """When the model is told that a cluster was: a sum of times [ns], and their number."""
        return (cluster.newest[0], 1) if self.config.last_seen_ids else cluster.times

    def _apart(self, distances: Sequence[float], times: tuple[int, int]) -> list[float]:
        """The clustering's distances [rows + 1] of what was seen at `times`; `distances` are by appearance alone."""
        then = [self._clusters[row].times if row in self._clusters else None for row in range(len(distances) - 1)]
        return self._episodes.apart(distances, times, then)

    def _novelty(self, ward: WardClustering, camera: str, distances: list[float]) -> float:
        own = [row for row, cluster in self._clusters.items() if cluster.camera == camera]
        if not own:
            return 1.0
        nearest = min(own, key=distances.__getitem__)
        norm = distances[-1]
        centroid_norm = max(0.0, ward.squared_norm(nearest) - self._episodes.squared(*self._clusters[nearest].times))
        if not norm or not centroid_norm:
            return float(norm != centroid_norm)
        cosine = (norm + centroid_norm - distances[nearest]) / (2 * math.sqrt(norm * centroid_norm))
        return min(1.0, max(0.0, 1.0 - cosine))

    def _measure(self, episodes: EpisodeTime, ward: WardClustering) -> None:
        """Let time count in the clustering in another way."""
        before, self._episodes = self._episodes, episodes
        if before != episodes and (before.slot_apart or episodes.slot_apart):
            times = self._times()
            ward.add(episodes.squares(times) - before.squares(times))

    def _times(self) -> list[tuple[int, int] | None]:
        """When what is in each row of the clustering was seen; None: nothing is."""
        rows = range(self.config.csm_slots + 1)
        return [self._clusters[row].times if row in self._clusters else None for row in rows]

    @staticmethod
    def _measured_from(first: FirstView, config: FlashMemoryConfig) -> EpisodeTime:
        return EpisodeTime(first, config.episode_slots, config.slot_period_ns)

    def _first_held(self, pool: ExemplarPool) -> FirstView:
        """The earliest of the slots that are held by themselves."""
        earliest = min(self._held(), key=lambda exemplar: exemplar.time_ns, default=None)
        if earliest is None:
            return FirstView()
        return FirstView.of(earliest, float(pool.low[earliest.row].float().square().sum()))

    def _held(self) -> Collection[Exemplar]:
        return held(self._clusters.values(), self._recent)

    def _held_of(self, row: int) -> list[Exemplar]:
        """The slots of a cluster that are held exactly: its exemplars, then those of the newest that it took in."""
        recent = [exemplar for exemplar, at in self._recent.items() if at == row]
        return list(dict.fromkeys(self._clusters[row].exemplars + recent))

    def _pool_for(self, slot: Slot) -> ExemplarPool:
        """With rows for what is held of the cameras seen so far, and of that of `slot`."""
        rows = self.config.exemplar_rows(len({slot.camera, *self.cameras}))
        if self._pool is not None and len(self._pool.low) >= rows:
            return self._pool
        return ExemplarPool(rows, slot.low, slot.detail, self._pool)


def _fitted(config: FlashMemoryConfig, low: Tensor, detail: Tensor) -> FlashMemoryConfig:
    """`config` as its budget of tokens has it for slots with features like these."""
    return config.fitted(low.shape[0] // config.patches_per_token, detail.shape[0])


def _concerns(camera: str, cameras: Collection[str]) -> bool:
    return not cameras or camera in cameras


def _entries(dam: Iterable[Exemplar], clusters: Iterable[Cluster]) -> tuple[MemoryEntry, ...]:
    return (*(exemplar.entry() for exemplar in dam), *(cluster.entry() for cluster in clusters))
