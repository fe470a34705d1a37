"""Checks of slots before they enter a memory."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from .config import MERGED_PATCHES
from .slot import Extension, Grid, Slot


class StoredFeatures(Protocol):
    """Features of the slots that a memory stores already."""

    @property
    def low(self) -> Tensor: ...  # [slots, low_patches, dim]

    @property
    def detail(self) -> Tensor: ...  # [slots, detail_tokens, width]


class SlotFeatures(NamedTuple):
    """Features of one stored slot, as StoredFeatures."""

    low: Tensor  # [1, low_patches, dim]
    detail: Tensor  # [1, detail_tokens, width]

    @classmethod
    def of(cls, slot: Slot) -> SlotFeatures:
        return cls(slot.low[None], slot.detail[None])


def check_slot(
    slot: Slot,
    stored: StoredFeatures | None,
    grid: Grid,
    newest: tuple[int, int] | None,
    patches_per_token: int = MERGED_PATCHES,
) -> None:
    """Check a slot, except the values of its tensors. Raises ValueError.

    `stored` and `grid` describe the slots in memory; `newest` is time and stamp [ns] of the camera's newest slot.
    """
    where = f"a slot of camera {slot.camera!r}"
    for name, features in (("low", slot.low), ("detail", slot.detail)):
        if features.dim() != 2 or features.numel() == 0 or not features.is_floating_point():
            raise ValueError(f"{where}: {name} must be a non-empty floating point matrix, not {_describe(features)}")
        expected = getattr(stored, name)[0] if stored else None
        if expected is not None and _describe(features) != _describe(expected):
            raise ValueError(
                f"{where}: {name} is {_describe(features)}, the memory holds {_describe(expected)}; reset it to change"
            )
    if stored and slot.grid != grid:
        raise ValueError(f"{where} has {slot.grid}, the memory holds {grid}; reset it to change")
    if slot.low.shape[0] % patches_per_token:
        raise ValueError(f"{where}: low must have a multiple of {patches_per_token} patches, not {slot.low.shape[0]}")
    if slot.low.device != slot.detail.device:
        raise ValueError(f"{where}: low is on {slot.low.device}, but detail on {slot.detail.device}")
    if slot.first_ns > slot.last_ns:
        raise ValueError(f"{where} ends at {slot.last_ns} ns, before it starts at {slot.first_ns} ns")
    if newest is not None and slot.first_ns + slot.shift_ns <= newest[0]:
        raise ValueError(
            f"{where} starts at {slot.first_ns} ns, not after {newest[1]} ns, the newest stamp in memory; "
            "leave it out, or reset the memory when time has jumped back"
        )


def check_finite(slot: Slot) -> None:
    """Check the values of a slot's tensors, which waits for the device. Raises ValueError."""
    if not bool(slot.low.isfinite().all() & slot.detail.isfinite().all()):
        raise not_finite(slot)


def not_finite(slot: Slot) -> ValueError:
    """The error about a slot with NaN or infinite features."""
    return ValueError(f"a slot of camera {slot.camera!r} has NaN or infinite features; leave it out")


def check_extension(camera: str, extension: Extension, newest: tuple[int, int] | None) -> None:
    """Check an extension of the camera's newest slot, with time and stamp `newest` [ns]. Raises ValueError."""
    if newest is None:
        raise ValueError(f"the memory has no slot of camera {camera!r} to extend; insert one first")
    if extension.slots < 1 or extension.time_ns <= newest[0] or extension.last_ns < newest[1]:
        raise ValueError(
            f"{extension} of camera {camera!r} does not come after {newest[1]} ns, its newest stamp in memory"
        )


def _describe(features: Tensor) -> str:
    return f"{list(features.shape)} {features.dtype} on {features.device}"
