"""Bookkeeping of one cluster besides its centroid: camera, time spans, weight and exemplars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .exemplars import Exemplar
from .region import Region
from .scope import Scope
from .slot import EntryKind, Extension, MemoryEntry
from .spans import Span, any_touches, union


@dataclass(eq=False)
class Cluster:
    """Slots of one camera that share a centroid. "Stamp" means a frame's stamp, "time" means Slot.time_ns; both in ns.

    Times are summed as integers, so their mean is exact.
    """

    camera: str
    spans: tuple[Span, ...]  # stamps; every slot lies in one of them
    oldest_ns: int  # time of its earliest slot
    newest: tuple[int, int]  # time and stamp of its latest slot
    time_sum: int
    slots: int
    exemplars: list[Exemplar]  # nearest to the centroid first
    region: Region  # of all its slots

    @classmethod
    def of(cls, exemplars: Sequence[Exemplar]) -> Cluster:
        """Create the cluster of exactly these slots of one camera, at least one."""
        return cls(
            camera=exemplars[0].camera,
            spans=union((exemplar.first_ns, exemplar.last_ns) for exemplar in exemplars),
            oldest_ns=min(exemplar.time_ns for exemplar in exemplars),
            newest=max((exemplar.time_ns, exemplar.last_ns) for exemplar in exemplars),
            time_sum=sum(exemplar.time_ns for exemplar in exemplars),
            slots=len(exemplars),
            exemplars=list(exemplars),
            region=Region.union(exemplar.region for exemplar in exemplars),
        )

    @classmethod
    def union_of(cls, clusters: Sequence[Cluster]) -> Cluster:
        """Create the cluster of all slots of `clusters`, at least one; exemplars stay in the order of `clusters`."""
        first, *others = clusters
        whole = replace(first, exemplars=list(first.exemplars))
        for other in others:
            whole.absorb(other)
        return whole

    @property
    def first_ns(self) -> int:
        """Stamp of its first frame."""
        return self.spans[0][0]

    @property
    def last_ns(self) -> int:
        """Stamp of its last frame."""
        return self.spans[-1][1]

    @property
    def times(self) -> tuple[int, int]:
        """Sum of the times of its slots, and their number."""
        return self.time_sum, self.slots

    def may_touch(self, scope: Scope) -> bool:
        """Returns True if any of its slots may lie in `scope`, even partly."""
        in_time = scope.has_camera(self.camera) and any_touches(self.spans, scope.interval)
        return in_time and scope.touches_place(self.region)

    def absorb(self, other: Cluster) -> None:
        """Add the slots and exemplars of `other`."""
        self.spans = union((*self.spans, *other.spans))
        self.oldest_ns = min(self.oldest_ns, other.oldest_ns)
        self.newest = max(self.newest, other.newest)
        self.time_sum += other.time_sum
        self.slots += other.slots
        self.exemplars += other.exemplars
        self.region = Region.union((self.region, other.region))

    def extend(self, extension: Extension, replaced: Mapping[Exemplar, Exemplar]) -> None:
        """Extend the newest slot of the cluster and camera. `replaced` maps that slot's exemplars to extended ones."""
        self.spans = union((*self.spans, (self.newest[1], extension.last_ns)))
        self.newest = extension.time_ns, extension.last_ns
        self.time_sum += extension.time_sum
        self.slots += extension.slots
        self.region = Region.union((self.region, extension.region))
        self.exemplars = [replaced.get(exemplar, exemplar) for exemplar in self.exemplars]

    def entry(self) -> MemoryEntry:
        """Describe the cluster as a CSM entry."""
        best = self.exemplars[0]
        return MemoryEntry(
            kind=EntryKind.CSM,
            camera=self.camera,
            frame_id=best.frame_id,
            first_ns=self.first_ns,
            last_ns=self.last_ns,
            weight=float(self.slots),
            thumbnail=best.thumbnail,
            thumbnail_ns=best.thumbnail_ns,
            pose=best.pose,
            region=self.region,
        )
