"""State of a memory of single tokens: converts it to tensors and values, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .config import FlashMemoryConfig
from .slot import Grid, Slot
from .slot_state import SLOT_VALUES
from .state import MemoryState, UnsupportedState, on_cpu, packed, saved_place, saved_values, unpacked
from .token_slot import TokenSlot


@dataclass(frozen=True, eq=False)
class SlotShape:
    """Shapes of the slots that a memory accepts. `low` and `detail` take no memory: all their elements are one."""

    low: Tensor  # [1, low_patches, dim]
    detail: Tensor  # [1, detail_tokens, width]
    grid: Grid
    low_tokens: int  # visual tokens of a slot at low resolution

    @classmethod
    def of(cls, slot: Slot, patches_per_token: int) -> SlotShape:
        low, detail = (features.new_zeros(()).expand(1, *features.shape) for features in (slot.low, slot.detail))
        return cls(low, detail, slot.grid, len(slot.low) // patches_per_token)

    @property
    def detail_tokens(self) -> int:
        return self.detail.shape[1]

    def budget(self, config: FlashMemoryConfig) -> int:
        """Number of visual tokens of a full Flash Memory of `config` with such slots."""
        sizes = config.within_budget(self.low_tokens, self.detail_tokens)
        return sizes.csm_slots * self.low_tokens + sizes.dam_slots * self.detail_tokens


def state_of(slots: Sequence[TokenSlot], shape: SlotShape | None, more: Mapping[str, Any]) -> MemoryState:
    """Copy of `slots`, all of `shape`, and `more` values."""
    if shape is None:
        return MemoryState({}, {**more, "slots": []})
    stored = [each.slot for each in slots]
    saved = [
        {**values, "tokens": each.tokens, "number": each.number, "stage": each.stage}
        for values, each in zip(saved_values(stored, SLOT_VALUES), slots, strict=True)
    ]
    tensors = {
        "detail": on_cpu(torch.cat([slot.detail for slot in stored])),  # [tokens, width]
        "low": on_cpu(shape.low[0, :0]),  # [0, dim], for its type
        "places": torch.cat([each.places for each in slots]),
        "distances": torch.cat([each.distances for each in slots]),
        "thumbnails": packed(slot.thumbnail for slot in stored),
    }
    sizes = {"low": list(shape.low.shape[1:]), "detail": list(shape.detail.shape[1:]), "low_tokens": shape.low_tokens}
    return MemoryState(tensors, {**more, "grid": list(shape.grid), "shape": sizes, "slots": saved})


def slots_of(state: MemoryState, device: torch.device) -> tuple[list[TokenSlot], SlotShape | None]:
    """The slots of `state_of`, with features on `device`, and their shape. Raises UnsupportedState."""
    saved: Sequence[Mapping[str, Any]] = state.values["slots"]
    if not saved:
        return [], None
    sizes, tensors, counts = state.values["shape"], state.tensors, [int(each["tokens"]) for each in saved]
    if not sum(counts) == len(tensors["detail"]) == len(tensors["places"]) == len(tensors["distances"]):
        raise UnsupportedState(f"{len(saved)} slots have {sum(counts)} tokens, but {len(tensors['detail'])} features")
    low, detail = (
        tensors[name].to(device).new_zeros(()).expand(1, *(int(side) for side in sizes[name]))
        for name in ("low", "detail")
    )
    grid, jpegs = Grid(*state.values["grid"]), unpacked(tensors["thumbnails"], [e["thumbnail_bytes"] for e in saved])
    features, places, distances = (
        tensors[name].to(where).split(counts)
        for name, where in (("detail", device), ("places", "cpu"), ("distances", "cpu"))
    )
    slots = [
        TokenSlot(
            Slot(
                low=low.new_zeros(0, 0),
                detail=own.clone(),
                grid=grid,
                thumbnail=jpeg,
                **saved_place(each),
                **{name: each[name] for name in SLOT_VALUES},
            ),
            int(each["number"]),
            place.clone(),
            distance.clone(),
            int(each["stage"]),
        )
        for own, place, distance, jpeg, each in zip(features, places, distances, jpegs, saved, strict=True)
    ]
    return slots, SlotShape(low, detail, grid, int(sizes["low_tokens"]))
