"""What the engine asks of a memory, whatever its policy of what to keep."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

from .config import FlashMemoryConfig
from .slot import MemoryEntry, MemorySnapshot, Slot, Stay


class Forgotten(NamedTuple):
    """What a call of `forget` took away."""

    slots: int = 0  # that the memory stood for and stands for no more
    removed: int = 0  # clusters of which nothing is left
    rebuilt: int = 0  # clusters made anew of the slots that were held of them


class Memory(Protocol):
    """Takes in slots of any number of cameras and gives snapshots; one owner. FlashMemory explains each member."""

    config: FlashMemoryConfig

    def insert(self, slot: Slot) -> float: ...

    def stay(self, camera: str, stay: Stay) -> None: ...

    def reset(self) -> None: ...

    def forget(self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0) -> Forgotten: ...

    def resize(self, config: FlashMemoryConfig) -> None: ...

    def snapshot(self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0) -> MemorySnapshot: ...

    def listed(
        self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0
    ) -> tuple[MemoryEntry, ...]: ...

    def saw(self, cameras: Collection[str] = (), since_ns: int = 0, until_ns: int = 0) -> bool: ...

    def newest_of(self, camera: str) -> tuple[int, int] | None: ...

    @property
    def newest(self) -> tuple[int, int]: ...

    @property
    def slots_seen(self) -> int: ...

    @property
    def revision(self) -> int: ...

    @property
    def first_ns(self) -> int: ...

    @property
    def last_ns(self) -> int: ...

    @property
    def entries(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    @property
    def bytes(self) -> int: ...
