"""Base class of memories that keep some slots at full detail and drop the others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .config import FlashMemoryConfig
from .interface import Forgotten, Memory
from .scope import EVERYTHING, Scope
from .similar import centred_cosines
from .slot import Extension, Grid, MemoryEntry, MemorySnapshot, Slot
from .slot_checks import SlotFeatures, check_extension, check_finite, check_slot
from .slot_state import slots_of, state_of
from .state import MemoryState, refused_if_malformed
from .time_ids import memory_clock, text_slots

LOW_PER_DETAIL = 4  # a slot at full detail has as many tokens as four at low resolution


@dataclass(frozen=True, eq=False)
class NumberedSlot:
    """A stored slot and its number among the slots of its camera, from 0."""

    slot: Slot
    number: int


class SlotBuffer(Memory):
    """Stores as many slots as a Flash Memory of the same `config` has tokens for.

    Slots are never merged, so scopes and forgetting are exact to the slot.
    """

    keeps_every_camera = False  # True: at least one slot of each camera is kept

    def __init__(self, config: FlashMemoryConfig | None = None) -> None:
        self.config = config or FlashMemoryConfig()
        self.revision = -1
        self.reset()

    @abstractmethod
    def _select(self, slots: list[NumberedSlot]) -> list[NumberedSlot]:
        """Choose at most `capacity` of `slots`, which are ordered by time."""

    def reset(self) -> None:
        self._slots: list[NumberedSlot] = []
        self._counts: dict[str, int] = {}
        self.slots_seen = 0
        self.revision += 1

    @property
    def parts(self) -> list[Slot]:
        """The slots, ordered by time."""
        return [numbered.slot for numbered in self._slots]

    @property
    def capacity(self) -> int:
        return capacity_of(self.config)

    @property
    def entries(self) -> int:
        return len(self._slots)

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
        """Insert a slot. Its novelty is 1 - cosine similarity to the camera's most similar slot; see Memory."""
        other = self._slots[-1].slot if self._slots else None
        stored = SlotFeatures.of(other) if other else None
        grid = other.grid if other else Grid(0, 0)
        check_slot(slot, stored, grid, self.newest_of(slot.camera), self.config.patches_per_token)
        check_finite(slot)
        self._check_room({slot.camera}, self.capacity)
        own = [stored.low.flatten().float() for stored in self.parts if stored.camera == slot.camera]
        similarities = [torch.cosine_similarity(low, slot.low.flatten().float(), dim=0) for low in own]
        number = self._counts.get(slot.camera, 0)
        self._counts[slot.camera] = number + 1
        self.slots_seen += 1
        self._keep([*self._slots, NumberedSlot(slot, number)])
        return min(1.0, max(0.0, 1.0 - float(max(similarities)))) if similarities else 1.0

    @property
    def grid(self) -> Grid:
        return self._slots[0].slot.grid if self._slots else Grid(0, 0)

    @torch.no_grad()
    def similar(self, low: Tensor, scope: Scope = EVERYTHING) -> list[tuple[MemoryEntry, float]]:
        slots = scope.select(self.parts)
        if not slots:
            return []
        cosines = centred_cosines(torch.stack([slot.low.flatten().float() for slot in slots]), low)
        return [(slot.entry(), cosine) for slot, cosine in zip(slots, cosines, strict=True)]

    def extend(self, camera: str, extension: Extension) -> None:
        """Extend the newest slot of `camera`, which takes no additional memory; see Memory."""
        newest = self.newest_of(camera)
        check_extension(camera, extension, newest)
        self._slots = [
            replace(numbered, slot=numbered.slot.extended(extension))
            if numbered.slot.camera == camera and numbered.slot.time_ns == newest[0]  # type: ignore[index]
            else numbered
            for numbered in self._slots
        ]
        self._counts[camera] = self._counts.get(camera, 0) + extension.slots
        self.slots_seen += extension.slots

    def forget(self, scope: Scope = EVERYTHING) -> Forgotten:
        kept = [numbered for numbered in self._slots if not scope.touches(numbered.slot)]
        removed = len(self._slots) - len(kept)
        self._slots = kept
        self.revision += removed > 0
        return Forgotten(removed, removed)

    def resize(self, config: FlashMemoryConfig) -> None:
        self._check_room(set(), capacity_of(config))
        self.config = config
        self._keep(self._slots)

    def snapshot(self, scope: Scope = EVERYTHING) -> MemorySnapshot:
        """The slots in `scope` as DAM, ordered by time."""
        slots = scope.select(self.parts)
        clock, none = memory_clock(self.parts, self.config), torch.zeros(0, 0, 0)
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

    def list_entries(self, scope: Scope = EVERYTHING) -> tuple[MemoryEntry, ...]:
        return tuple(slot.entry() for slot in scope.select(self.parts))

    def may_contain(self, scope: Scope = EVERYTHING) -> bool:
        return bool(scope.select(self.parts))

    def state(self) -> MemoryState:
        numbers = [numbered.number for numbered in self._slots]
        more = {"numbers": numbers, "counts": self._counts, "slots_seen": self.slots_seen}
        return state_of(self.parts, {**more, **self._selection_state()})

    def restore(self, state: MemoryState, device: torch.device) -> None:
        values = state.values
        with refused_if_malformed():
            slots = slots_of(state, device)
            numbered = [NumberedSlot(slot, number) for slot, number in zip(slots, values["numbers"], strict=True)]
            seen, counts = int(values["slots_seen"]), dict(values["counts"])
            self._restore_selection(values)
        self.slots_seen, self._counts = seen, counts
        self.revision += 1
        self._keep(numbered)

    def _selection_state(self) -> dict[str, int]:
        """State of `_select` besides the slots."""
        return {}

    def _restore_selection(self, values: Mapping[str, Any]) -> None:
        """Adopt what `_selection_state` returned."""

    def _check_room(self, more: set[str], capacity: int) -> None:
        cameras = {slot.camera for slot in self.parts} | more
        if self.keeps_every_camera and len(cameras) > capacity:
            raise ValueError(
                f"{len(cameras)} cameras need as many slots, and there are {capacity}; raise memory.synopsis_slots or "
                "memory.key_frame_slots, or use fewer cameras"
            )

    def _keep(self, slots: list[NumberedSlot]) -> None:
        self._slots = self._select(sorted(slots, key=lambda numbered: numbered.slot.time_ns))


def capacity_of(config: FlashMemoryConfig) -> int:
    """Number of slots at full detail with as many tokens as a Flash Memory of these sizes."""
    return config.dam_slots + config.csm_slots // LOW_PER_DETAIL
