"""State of whole slots: their features as tensors, the rest as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .slot import Grid, Slot
from .state import MemoryState, UnsupportedState, on_cpu, packed, unpacked

SLOT_VALUES = ("camera", "frame_id", "first_ns", "last_ns", "shift_ns", "thumbnail_ns")


def state_of(slots: Sequence[Slot], more: Mapping[str, Any]) -> MemoryState:
    """Copy of `slots`, all of one shape, and `more` values."""
    values = {
        **more,
        "grid": list(slots[0].grid) if slots else [0, 0],
        "slots": [
            {**{name: getattr(slot, name) for name in SLOT_VALUES}, "thumbnail_bytes": len(slot.thumbnail)}
            for slot in slots
        ],
    }
    if not slots:
        return MemoryState({}, values)
    tensors = {
        "low": on_cpu(torch.stack([slot.low for slot in slots])),  # [slots, low_patches, dim]
        "detail": on_cpu(torch.stack([slot.detail for slot in slots])),  # [slots, detail_tokens, width]
        "thumbnails": packed(slot.thumbnail for slot in slots),
    }
    return MemoryState(tensors, values)


def slots_of(state: MemoryState, device: torch.device) -> list[Slot]:
    """The slots of `state_of`, with features on `device`. Raises UnsupportedState."""
    saved: Sequence[Mapping[str, Any]] = state.values["slots"]
    if not saved:
        return []
    low, detail = state.tensors["low"].to(device), state.tensors["detail"].to(device)
    if not len(low) == len(detail) == len(saved):
        raise UnsupportedState(f"{len(saved)} slots have features of {len(low)} and {len(detail)}")
    jpegs = unpacked(state.tensors["thumbnails"], [each["thumbnail_bytes"] for each in saved])
    return [
        Slot(low=a, detail=b, grid=Grid(*state.values["grid"]), thumbnail=jpeg, **{n: each[n] for n in SLOT_VALUES})
        for a, b, jpeg, each in zip(low, detail, jpegs, saved, strict=True)
    ]
