"""Base class of memories that drop single tokens of slots, and show the others at their own places and times."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from . import token_state
from .config import FlashMemoryConfig
from .interface import Forgotten, Memory
from .scope import EVERYTHING, Scope
from .slot import Extension, MemoryEntry, MemorySnapshot, Slot, empty_snapshot
from .slot_buffer import capacity_of
from .slot_checks import check_extension, check_finite, check_slot
from .state import MemoryState, refused_if_malformed
from .time_ids import memory_clock, text_slots
from .token_slot import FIRST, TokenSlot, place_distances
from .token_snapshot import TokenMap, TokenSnapshot
from .token_state import SlotShape


class TokenBuffer(Memory):
    """Stores tokens of slots in detail, at most as many as a Flash Memory of the same `config` has.

    The newest slot of each camera is whole. A slot without a remaining token is dropped. Features of different slots
    are never mixed, so scopes and forgetting are exact to the slot.
    """

    def __init__(self, config: FlashMemoryConfig | None = None) -> None:
        self.config = config or FlashMemoryConfig()
        self.revision = -1
        self.reset()

    @abstractmethod
    def _reduced(self, slots: list[TokenSlot]) -> list[TokenSlot]:
        """Drop tokens of `slots`, which are ordered by time, until there are at most `budget`."""

    def _distances(self, detail: Tensor, previous: Tensor) -> Tensor:
        """Distances [tokens] in [0, 2] of the tokens `detail` from the whole slot `previous`, both [tokens, width]."""
        return place_distances(detail, previous)

    def reset(self) -> None:
        self._slots: list[TokenSlot] = []
        self._counts: dict[str, int] = {}
        self._shape: SlotShape | None = None  # None without a slot
        self.slots_seen = 0
        self.revision += 1

    @property
    def parts(self) -> list[Slot]:
        """The slots, ordered by time."""
        return [each.slot for each in self._slots]

    @property
    def budget(self) -> int:
        """Largest number of tokens; 0 without a slot."""
        return self._shape.budget(self.config) if self._shape else 0

    @property
    def capacity(self) -> int:
        """Maximum number of entries: one for each token. Without a slot, the number of whole slots."""
        return self.budget or capacity_of(self.config)

    @property
    def entries(self) -> int:
        return len(self._slots)

    @property
    def tokens(self) -> int:
        return sum(each.tokens for each in self._slots)

    @property
    def bytes(self) -> int:
        tensors = [tensor for each in self._slots for tensor in (each.slot.detail, each.places, each.distances)]
        thumbnails = sum(len(slot.thumbnail) for slot in self.parts)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + thumbnails

    @torch.no_grad()
    def insert(self, slot: Slot) -> float:
        """Insert a slot. Its novelty is the mean distance of its tokens from the camera's previous slot; see Memory."""
        shape = self._shape
        check_slot(
            slot, shape, shape.grid if shape else slot.grid, self.newest_of(slot.camera), self.config.patches_per_token
        )
        check_finite(slot)
        own = shape or SlotShape.of(slot, self.config.patches_per_token)
        _check_room({*self._cameras, slot.camera}, own, self.config)
        before = self._newest_whole(slot.camera)
        if before is None:
            distances = torch.full((len(slot.detail),), FIRST)
        else:
            distances = self._distances(slot.detail, before.slot.detail)
        number = self._counts.get(slot.camera, 0)
        self._counts[slot.camera] = number + 1
        self._shape = own
        self.slots_seen += 1
        self._keep([*self._slots, TokenSlot.of(slot, number, distances)])
        return 1.0 if before is None else float(distances.clamp(0, 1).mean())

    def extend(self, camera: str, extension: Extension) -> None:
        """Extend the newest slot of `camera`, which takes no additional memory; see Memory."""
        newest = self.newest_of(camera)
        check_extension(camera, extension, newest)
        self._slots = [
            replace(each, slot=each.slot.extended(extension))
            if each.slot.camera == camera and each.slot.time_ns == newest[0]  # type: ignore[index]
            else each
            for each in self._slots
        ]
        self._counts[camera] = self._counts.get(camera, 0) + extension.slots
        self.slots_seen += extension.slots

    def forget(self, scope: Scope = EVERYTHING) -> Forgotten:
        kept = [each for each in self._slots if not scope.touches(each.slot)]
        removed = len(self._slots) - len(kept)
        self._slots, self._shape = kept, self._shape if kept else None
        self.revision += removed > 0
        return Forgotten(removed, removed)

    def resize(self, config: FlashMemoryConfig) -> None:
        if self._shape is not None:
            _check_room(self._cameras, self._shape, config)
        self.config = config
        self._keep(self._slots)

    def snapshot(self, scope: Scope = EVERYTHING) -> MemorySnapshot:
        """The tokens of the slots in `scope`, ordered by time."""
        chosen = [each for each in self._slots if scope.touches(each.slot)]
        if not chosen:
            return empty_snapshot(self.config.slot_period_ns * 1e-9)
        clock, none = memory_clock(self.parts, self.config), torch.zeros(0, 0, 0)
        return TokenSnapshot(
            dam=none,
            dam_times=clock.of((each.slot.time_ns, 1) for each in chosen),
            csm=none,
            csm_times=torch.zeros(0, dtype=torch.float64),
            grid=chosen[0].slot.grid,
            entries=tuple(each.slot.entry() for each in chosen),
            slots_seen=len(chosen),
            text_slots=text_slots(clock, len(chosen), self.config),
            newest_ns=self.newest[1],
            slot_s=self.config.slot_period_ns * 1e-9,
            time_scale=clock.scale,
            tokens=torch.cat([each.slot.detail for each in chosen]),
            places=torch.cat([each.places for each in chosen]),
            counts=tuple(each.tokens for each in chosen),
        )

    def list_entries(self, scope: Scope = EVERYTHING) -> tuple[MemoryEntry, ...]:
        return tuple(slot.entry() for slot in scope.select(self.parts))

    def may_contain(self, scope: Scope = EVERYTHING) -> bool:
        return bool(scope.select(self.parts))

    def state(self) -> MemoryState:
        return token_state.state_of(self._slots, self._shape, {"counts": self._counts, "slots_seen": self.slots_seen})

    def restore(self, state: MemoryState, device: torch.device) -> None:
        values = state.values
        with refused_if_malformed():
            slots, shape = token_state.slots_of(state, device)
            seen, counts = int(values["slots_seen"]), dict(values["counts"])
        self.slots_seen, self._counts, self._shape = seen, counts, shape
        self.revision += 1
        self._keep(slots)

    @property
    def _cameras(self) -> set[str]:
        return {slot.camera for slot in self.parts}

    @property
    def _map(self) -> TokenMap:
        assert self._shape is not None
        return TokenMap.of(self._shape.grid, self._shape.detail_tokens)

    def _newest_whole(self, camera: str) -> TokenSlot | None:
        """The newest stored slot of `camera` if it is whole."""
        newest = next((each for each in reversed(self._slots) if each.slot.camera == camera), None)
        return newest if newest and self._shape and newest.tokens == self._shape.detail_tokens else None

    @torch.no_grad()
    def _keep(self, slots: list[TokenSlot]) -> None:
        self._slots = self._reduced(sorted(slots, key=lambda each: each.slot.time_ns)) if slots else []


def newest_of_cameras(slots: list[TokenSlot]) -> set[int]:
    """Places in `slots`, which are ordered by time, of the newest slot of each camera."""
    return set({each.slot.camera: place for place, each in enumerate(slots)}.values())


def _check_room(cameras: set[str], shape: SlotShape, config: FlashMemoryConfig) -> None:
    budget = shape.budget(config)
    if len(cameras) * shape.detail_tokens > budget:
        raise ValueError(
            f"{len(cameras)} cameras need {shape.detail_tokens} tokens each, and there are {budget}; raise "
            "memory.synopsis_slots, memory.key_frame_slots or memory.tokens, or use fewer cameras"
        )
