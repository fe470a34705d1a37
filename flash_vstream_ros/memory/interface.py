"""Interface of a memory, common to all retention policies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .config import FlashMemoryConfig
from .scope import EVERYTHING, Scope
from .slot import Extension, Grid, MemoryEntry, MemorySnapshot, Slot, empty_snapshot
from .state import MemoryState, UnsupportedState
from .time_ids import MemoryClock, Timed, memory_clock


class Forgotten(NamedTuple):
    """Result of `Memory.forget`."""

    slots: int = 0  # slots that the memory no longer represents
    removed: int = 0  # clusters removed completely
    rebuilt: int = 0  # clusters recomputed from their remaining exemplars


class Memory(ABC):
    """Bounded memory of the slots of any number of cameras. One owner; not thread safe.

    A `Scope` selects cameras and an interval of stamps; the default selects everything.
    """

    config: FlashMemoryConfig  # sizes in use
    slots_seen: int  # slots inserted since the start or the last reset, forgotten ones included
    revision: int  # incremented by each `forget` that removed something and by each reset

    @property
    @abstractmethod
    def parts(self) -> Collection[Timed]:
        """Clusters and slots that make up the memory. Each represented slot belongs to exactly one of them."""

    @property
    def first_ns(self) -> int:
        """Stamp of the oldest frame represented [ns]; 0 when empty."""
        return min((part.first_ns for part in self.parts), default=0)

    @property
    def last_ns(self) -> int:
        """Stamp of the newest frame represented [ns]; 0 when empty."""
        return max((part.last_ns for part in self.parts), default=0)

    @property
    def newest(self) -> tuple[int, int]:
        """Time and stamp of the slot with the latest time [ns]; zeros when empty."""
        return max((part.newest for part in self.parts), default=(0, 0))

    def newest_of(self, camera: str) -> tuple[int, int] | None:
        """`newest` of one camera; None if the memory has no slot of it."""
        return max((part.newest for part in self.parts if part.camera == camera), default=None)

    def cluster_of_newest(self, camera: str) -> int | None:
        """Number of the cluster with the newest slot of `camera`, valid until the cluster is merged; None if none."""
        return None

    @property
    @abstractmethod
    def entries(self) -> int:
        """Number of entries of a full snapshot."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """Maximum number of entries."""

    @property
    @abstractmethod
    def tokens(self) -> int:
        """Number of visual tokens of a full snapshot, after the merger."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Size of all tensors, preallocated ones at full size, and of all thumbnails."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything; the next slot may have another shape and an earlier stamp."""

    @abstractmethod
    def insert(self, slot: Slot) -> float:
        """Insert a slot and return its novelty for its camera, in [0, 1]. A camera's first slot has novelty 1.

        Raises ValueError and changes nothing if features are not finite or differ from the stored ones in shape, grid,
        dtype or device, if times do not increase within a camera, or if there are more cameras than capacity.
        """

    @abstractmethod
    def extend(self, camera: str, extension: Extension) -> None:
        """Extend the newest slot of `camera` in time: its cluster gains weight and time, features do not change.

        Forgetting any moment of the extension forgets the slot. Raises ValueError and changes nothing if the memory has
        no slot of the camera, or if the extension is not newer than its newest slot.
        """

    @abstractmethod
    def forget(self, scope: Scope = EVERYTHING) -> Forgotten:
        """Forget everything in `scope`; nothing stored afterwards is derived from it."""

    @abstractmethod
    def resize(self, config: FlashMemoryConfig) -> None:
        """Change sizes or the clock. Raises ValueError if there are more cameras than the new capacity."""

    @abstractmethod
    def snapshot(self, scope: Scope = EVERYTHING) -> MemorySnapshot:
        """Copy of the part in `scope`. A slot is included if any moment of it is in scope."""

    def second_look(
        self, entries: Sequence[MemoryEntry], tokens: int, scope: Scope = EVERYTHING, clock: MemoryClock | None = None
    ) -> MemorySnapshot:
        """Snapshot of the stored clusters behind `entries` of `snapshot(scope)`, with at most `tokens` visual tokens.

        `clock` is the clock of `snapshot(scope)`. Empty if `snapshot(scope)` contains everything stored.
        """
        return empty_snapshot()

    @property
    def grid(self) -> Grid:
        """The patch grid of every stored slot; 0x0 if there is none, or if `similar` is not supported."""
        return Grid(0, 0)

    def similar(self, low: Tensor, scope: Scope = EVERYTHING) -> list[tuple[MemoryEntry, float]]:
        """Stored slots in `scope`, each with the cosine [-1..1] between its map and `low` [low_patches, dim].

        The mean of the stored maps is subtracted first. Each cluster contributes only its most similar slot. Raises
        NotImplementedError if the policy does not support this; `grid` is then 0x0.
        """
        raise NotImplementedError(f"a {type(self).__name__} does not compare maps")

    @property
    def clock(self) -> MemoryClock:
        """The clock of a snapshot taken now."""
        return memory_clock(self.parts, self.config)

    @abstractmethod
    def list_entries(self, scope: Scope = EVERYTHING) -> tuple[MemoryEntry, ...]:
        """The entries of `snapshot(scope)`, without its tensors."""

    @abstractmethod
    def may_contain(self, scope: Scope = EVERYTHING) -> bool:
        """Returns False if nothing stored was recorded in `scope`, neither a slot nor a contribution to a centroid."""

    def adopt(self, other: Memory) -> None:
        """Replace everything by the contents and sizes of `other`, which must not be used afterwards."""
        assert type(other) is type(self)
        revision = self.revision + 1
        vars(self).update(vars(other))
        self.revision = revision

    def state(self) -> MemoryState:
        """Copy of the memory for `restore`. Raises UnsupportedState if this policy cannot be saved."""
        raise UnsupportedState(f"a {type(self).__name__} cannot be saved")

    def restore(self, state: MemoryState, device: torch.device) -> None:
        """Replace everything by `state`, resized to the configured sizes; features go to `device`.

        Raises UnsupportedState, and changes nothing, if `state` is not that of such a memory.
        """
        raise UnsupportedState(f"a {type(self).__name__} cannot be restored")
