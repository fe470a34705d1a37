"""A memory of whole slots, all in detail: what policies that choose among slots have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .admission import check, check_extension
from .config import FlashMemoryConfig
from .interface import Forgotten, Memory
from .scope import EVERYTHING, Scope
from .slot import Extension, Grid, MemoryEntry, MemorySnapshot, Slot
from .time_ids import clock_of, text_slots

LOW_PER_DETAIL = 4  # a slot in detail has as many tokens as four at low resolution


@dataclass(frozen=True, eq=False)
class Numbered:
    """A slot that is held, and how many of its camera came before it."""

    slot: Slot
    number: int


class HeldKind(NamedTuple):
    """Features of a slot that is held, as `check` compares them."""

    low: Tensor  # [1, low_patches, dim]
    detail: Tensor  # [1, detail_tokens, width]


class WholeSlots(Memory):
    """Holds as many slots as a Flash Memory of the same `config` has tokens for.

    What is not held is gone, so that what may be seen, and what is forgotten, is exact to the slot.
    """

    every_camera = False  # whether something of each camera is always held

    def __init__(self, config: FlashMemoryConfig | None = None) -> None:
        self.config = config or FlashMemoryConfig()
        self.revision = -1
        self.reset()

    @abstractmethod
    def _chosen(self, held: list[Numbered]) -> list[Numbered]:
        """At most `capacity` of `held`, which are in the order of their times."""

    def reset(self) -> None:
        self._held: list[Numbered] = []
        self._counts: dict[str, int] = {}
        self.slots_seen = 0
        self.revision += 1

    @property
    def parts(self) -> list[Slot]:
        """The slots, by time."""
        return [one.slot for one in self._held]

    @property
    def capacity(self) -> int:
        return capacity_of(self.config)

    @property
    def entries(self) -> int:
        return len(self._held)

    @property
    def tokens(self) -> int:
        return sum(len(slot.detail) for slot in self.parts)

    @property
    def bytes(self) -> int:
        tensors = [tensor for slot in self.parts for tensor in (slot.low, slot.detail)]
        thumbnails = sum(len(slot.thumbnail) for slot in self.parts)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + thumbnails

    @torch.no_grad()
    def insert(self, slot: Slot) -> float:
        """Novelty is 1 - cosine similarity with the most similar slot held of its camera; see Memory."""
        other = self._held[-1].slot if self._held else None
        kind = HeldKind(other.low[None], other.detail[None]) if other else None
        grid = other.grid if other else Grid(0, 0)
        check(slot, kind, grid, self.newest_of(slot.camera), self.config.patches_per_token)
        if not bool(slot.low.isfinite().all() & slot.detail.isfinite().all()):
            raise ValueError(f"a slot of camera {slot.camera!r} has NaN or infinite features; leave it out")
        self._check_room({slot.camera}, self.capacity)
        own = [held.low.flatten().float() for held in self.parts if held.camera == slot.camera]
        alike = [torch.cosine_similarity(low, slot.low.flatten().float(), dim=0) for low in own]
        number = self._counts.get(slot.camera, 0)
        self._counts[slot.camera] = number + 1
        self.slots_seen += 1
        self._keep([*self._held, Numbered(slot, number)])
        return min(1.0, max(0.0, 1.0 - float(max(alike)))) if alike else 1.0

    def stay(self, camera: str, stay: Extension) -> None:
        """It takes no further place; see Memory."""
        newest = self.newest_of(camera)
        check_extension(camera, stay, newest)
        self._held = [
            replace(one, slot=one.slot.staying(stay))
            if one.slot.camera == camera and one.slot.time_ns == newest[0]  # type: ignore[index]
            else one
            for one in self._held
        ]
        self._counts[camera] = self._counts.get(camera, 0) + stay.slots
        self.slots_seen += stay.slots

    def forget(self, scope: Scope = EVERYTHING) -> Forgotten:
        left = [one for one in self._held if not scope.touches(one.slot)]
        gone = len(self._held) - len(left)
        self._held = left
        self.revision += gone > 0
        return Forgotten(gone, gone)

    def resize(self, config: FlashMemoryConfig) -> None:
        self._check_room(set(), capacity_of(config))
        self.config = config
        self._keep(self._held)

    def snapshot(self, scope: Scope = EVERYTHING) -> MemorySnapshot:
        """By time."""
        slots = scope.among(self.parts)
        clock, none = clock_of(self.parts, self.config), torch.zeros(0, 0, 0)
        return MemorySnapshot(
            dam=torch.stack([slot.detail for slot in slots]) if slots else none,
            dam_times=clock.of((slot.time_ns, 1) for slot in slots),
            csm=slots[0].low.new_zeros(0, *slots[0].low.shape) if slots else none,
            csm_times=torch.zeros(0, dtype=torch.float64),
            grid=slots[0].grid if slots else Grid(0, 0),
            entries=tuple(slot.entry() for slot in slots),
            slots_seen=len(slots),
            text_slots=text_slots(clock, len(slots), self.config),
            newest_ns=self.newest[1],
        )

    def listed(self, scope: Scope = EVERYTHING) -> tuple[MemoryEntry, ...]:
        return tuple(slot.entry() for slot in scope.among(self.parts))

    def saw(self, scope: Scope = EVERYTHING) -> bool:
        return bool(scope.among(self.parts))

    def _check_room(self, more: set[str], capacity: int) -> None:
        cameras = {slot.camera for slot in self.parts} | more
        if self.every_camera and len(cameras) > capacity:
            raise ValueError(f"{len(cameras)} cameras need as many slots, and there are {capacity}")

    def _keep(self, held: list[Numbered]) -> None:
        self._held = self._chosen(sorted(held, key=lambda one: one.slot.time_ns))


def capacity_of(config: FlashMemoryConfig) -> int:
    """Slots in detail that have as many tokens as a Flash Memory of these sizes."""
    return config.dam_slots + config.csm_slots // LOW_PER_DETAIL
