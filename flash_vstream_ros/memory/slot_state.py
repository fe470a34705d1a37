"""State of slots: converts them to tensors and values, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .slot import Grid, Slot
from .state import MemoryState, saved_features, saved_place, saved_tensors, saved_values

SLOT_VALUES = ("camera", "frame_id", "first_ns", "last_ns", "shift_ns", "thumbnail_ns")


def state_of(slots: Sequence[Slot], more: Mapping[str, Any]) -> MemoryState:
    """Copy of `slots`, all of one shape, and `more` values."""
    grid = list(slots[0].grid) if slots else [0, 0]
    values = {**more, "grid": grid, "slots": saved_values(slots, SLOT_VALUES)}
    if not slots:
        return MemoryState({}, values)
    low, detail = torch.stack([slot.low for slot in slots]), torch.stack([slot.detail for slot in slots])
    return MemoryState(saved_tensors(low, detail, slots), values)


def slots_of(state: MemoryState, device: torch.device) -> list[Slot]:
    """The slots of `state_of`, with features on `device`. Raises UnsupportedState."""
    saved: Sequence[Mapping[str, Any]] = state.values["slots"]
    if not saved:
        return []
    features = saved_features(state.tensors, saved, device)
    return [
        Slot(
            low=low,
            detail=detail,
            grid=Grid(*state.values["grid"]),
            thumbnail=jpeg,
            **saved_place(each),
            **{n: each[n] for n in SLOT_VALUES},
        )
        for low, detail, jpeg, each in zip(*features, saved, strict=True)
    ]
