"""Status of the engine: frozen values that any thread may read, and the slots that are new between two of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .answering.prefix_cache_config import PrefixCacheStatus
from .archive.archive_status import ArchiveStatus
from .ingest.mailbox import FrameCounts
from .restart.rebuild import MemoryStart
from .restart.snapshots import SnapshotStatus
from .state import State
from .watches.watch import WatchesStatus


@dataclass(frozen=True)
class MemoryStats:
    """The memory after its last change. Durations in seconds as (median, 95th percentile)."""

    slots: int = 0
    entries: int = 0
    capacity: int = 0
    tokens: int = 0
    bytes: int = 0
    device_bytes: int = 0
    first_ns: int = 0
    last_ns: int = 0
    newest_ns: int = 0  # stamp of the slot with the latest time, which differs from `last_ns` after a jump back
    revision: int = 0  # changes whenever slots are forgotten or the memory is reset or restored
    novelty_sum: float = 0.0
    encode_s: tuple[float, float] = (0.0, 0.0)
    update_s: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Status:
    """Values that msg/MemoryStatus.msg and /diagnostics report. Durations in seconds as (median, 95th percentile)."""

    state: State
    cameras: tuple[tuple[str, FrameCounts], ...]
    memory: MemoryStats
    answer_s: tuple[float, float]
    questions_answered: int
    questions_failed: int
    questions_waiting: int
    question_queue: int  # capacity of the queue
    last_error: str
    paused: bool = False
    first_token_s: tuple[float, float] = (0.0, 0.0)
    questions_cached: int = 0  # of those answered
    prefix_cache: PrefixCacheStatus = field(default_factory=PrefixCacheStatus)
    snapshots: SnapshotStatus = field(default_factory=SnapshotStatus)
    archive: ArchiveStatus = field(default_factory=ArchiveStatus)
    memory_start: MemoryStart = field(default_factory=MemoryStart)
    blur_faces: bool = False
    watches: WatchesStatus = field(default_factory=WatchesStatus)

    @property
    def frames(self) -> FrameCounts:
        """Counts of all cameras together."""
        return FrameCounts.total([counts for _, counts in self.cameras])


@dataclass(frozen=True)
class NewSlots:
    """Slots that entered the memory between two statuses, and the interval of their stamps [ns]; 0: open."""

    slots: int
    frames: int
    novelty: float  # mean over the slots, 0 to 1
    since_ns: int
    until_ns: int


def slots_since(before: Status, now: Status) -> NewSlots | None:
    """The slots that are new since `before`; None if there are none.

    The interval is open if slots were forgotten or stamps jumped since `before`.
    """
    frames = now.frames.ingested - before.frames.ingested
    then = before.memory if now.memory.slots >= before.memory.slots else MemoryStats()
    slots = now.memory.slots - then.slots
    if not slots or not frames or not now.memory.entries:
        return None
    continues = now.memory.revision == before.memory.revision and now.memory.newest_ns > before.memory.newest_ns
    return NewSlots(
        slots=slots,
        frames=max(frames, 0),
        novelty=min(max((now.memory.novelty_sum - then.novelty_sum) / slots, 0.0), 1.0),
        since_ns=before.memory.newest_ns + 1 if continues and before.memory.newest_ns else 0,
        until_ns=now.memory.newest_ns if continues else 0,
    )
