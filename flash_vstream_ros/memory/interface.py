"""What the engine asks of a memory, whatever its policy of what to keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import NamedTuple

from .config import FlashMemoryConfig
from .scope import EVERYTHING, Scope
from .slot import Extension, MemoryEntry, MemorySnapshot, Slot
from .time_ids import Timed


class Forgotten(NamedTuple):
    """What a call of `forget` took away."""

    slots: int = 0  # that the memory stood for and stands for no more
    removed: int = 0  # clusters of which nothing is left
    rebuilt: int = 0  # clusters made anew of the slots that were held of them


class Memory(ABC):
    """Takes in slots of any number of cameras and gives snapshots. One owner; not thread safe.

    What is asked for or forgotten is what `cameras` (none given: all) saw between two stamps [ns] (0: no bound).
    """

    config: FlashMemoryConfig  # the sizes in use
    slots_seen: int  # taken in since the start or the last reset, forgotten ones included
    revision: int  # how often anything was forgotten or reset

    @property
    @abstractmethod
    def parts(self) -> Collection[Timed]:
        """All that it stands for: each slot that it has not let go of is in one of these."""

    @property
    def first_ns(self) -> int:
        """Stamp of the oldest frame that the memory stands for [ns]; 0 when empty."""
        return min((part.first_ns for part in self.parts), default=0)

    @property
    def last_ns(self) -> int:
        """Stamp of the newest frame that the memory stands for [ns]; 0 when empty."""
        return max((part.last_ns for part in self.parts), default=0)

    @property
    def newest(self) -> tuple[int, int]:
        """Time and stamp of the slot that comes last in the order of the memory [ns]; zeros when empty."""
        return max((part.newest for part in self.parts), default=(0, 0))

    def newest_of(self, camera: str) -> tuple[int, int] | None:
        """`newest` of one camera; None where the memory holds nothing of it."""
        return max((part.newest for part in self.parts if part.camera == camera), default=None)

    @property
    @abstractmethod
    def entries(self) -> int:
        """Entries that a snapshot of everything has now."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """Most entries there can be."""

    @property
    @abstractmethod
    def tokens(self) -> int:
        """Visual tokens, as the language model is shown them, of a snapshot of everything now."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Size of all tensors, preallocated ones as a whole, and of all thumbnails held."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything; the next slot may have another shape and an earlier stamp."""

    @abstractmethod
    def insert(self, slot: Slot) -> float:
        """Take in a slot; its novelty for its camera, in [0, 1]. The first slot of a camera has novelty 1.

        Raises ValueError, and changes nothing, when features are not finite or differ in shape, grid, dtype or device
        from those held, when times do not increase within a camera, or when there are more cameras than have a place.
        """

    @abstractmethod
    def stay(self, camera: str, stay: Extension) -> None:
        """Let the newest slot of `camera` go on: what holds it gains weight and time, and all features stay.

        What is forgotten of the time of `stay` takes the slot with it. Raises ValueError, and changes nothing, when
        nothing of the camera is held, or nothing that is older.
        """

    @abstractmethod
    def forget(self, scope: Scope = EVERYTHING) -> Forgotten:
        """Forget a part; afterwards nothing that is held stems from it."""

    @abstractmethod
    def resize(self, config: FlashMemoryConfig) -> None:
        """Go on with other sizes, or another clock; ValueError when there are more cameras than have a place then."""

    @abstractmethod
    def snapshot(self, scope: Scope = EVERYTHING) -> MemorySnapshot:
        """What the memory holds of a part. A slot is in when it reaches into the interval."""

    @abstractmethod
    def listed(self, scope: Scope = EVERYTHING) -> tuple[MemoryEntry, ...]:
        """The entries of `snapshot`, without its tensors."""

    @abstractmethod
    def saw(self, scope: Scope = EVERYTHING) -> bool:
        """Whether it may hold anything of what `snapshot` would show, if only in a sum with other things."""
