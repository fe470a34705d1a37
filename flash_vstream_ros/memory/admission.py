"""Which slots fit into a memory that holds some already."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from .config import MERGED_PATCHES
from .slot import Extension, Grid, Slot


class Kind(Protocol):
    """Where features of slots that are held can be looked at."""

    @property
    def low(self) -> Tensor: ...  # [slots, low_patches, dim]

    @property
    def detail(self) -> Tensor: ...  # [slots, detail_tokens, width]


def check(
    slot: Slot,
    pool: Kind | None,
    grid: Grid,
    newest: tuple[int, int] | None,
    patches_per_token: int = MERGED_PATCHES,
) -> None:
    """Raise ValueError for what can be told of a slot without reading a tensor.

    `pool` and `grid` are those of the slots held, `newest` is time and stamp [ns] of the newest of the same camera.
    """
    where = f"a slot of camera {slot.camera!r}"
    for name, features in (("low", slot.low), ("detail", slot.detail)):
        if features.dim() != 2 or features.numel() == 0 or not features.is_floating_point():
            raise ValueError(f"{where}: {name} must be a non-empty floating point matrix, not {_kind(features)}")
        held = getattr(pool, name)[0] if pool else None
        if held is not None and _kind(features) != _kind(held):
            raise ValueError(
                f"{where}: {name} is {_kind(features)}, the memory holds {_kind(held)}; reset it to change"
            )
    if pool and slot.grid != grid:
        raise ValueError(f"{where} has {slot.grid}, the memory holds {grid}; reset it to change")
    if slot.low.shape[0] % patches_per_token:
        raise ValueError(f"{where}: the merger needs low patches by {patches_per_token}, not {slot.low.shape[0]}")
    if slot.low.device != slot.detail.device:
        raise ValueError(f"{where}: low is on {slot.low.device}, but detail on {slot.detail.device}")
    if slot.first_ns > slot.last_ns:
        raise ValueError(f"{where} ends at {slot.last_ns} ns, before it starts at {slot.first_ns} ns")
    if newest is not None and slot.first_ns + slot.shift_ns <= newest[0]:
        raise ValueError(
            f"{where} starts at {slot.first_ns} ns, not after {newest[1]} ns, the newest stamp in memory; "
            "leave it out, or reset the memory when time has jumped back"
        )


def check_extension(camera: str, stay: Extension, newest: tuple[int, int] | None) -> None:
    """Raise ValueError where the newest slot of a camera, with time and stamp `newest` [ns], cannot stay so."""
    if newest is None:
        raise ValueError(f"the memory holds no slot of camera {camera!r} that could stay; insert one first")
    if stay.slots < 1 or stay.time_ns <= newest[0] or stay.last_ns < newest[1]:
        raise ValueError(f"{stay} of camera {camera!r} does not come after {newest[1]} ns, its newest stamp in memory")


def _kind(features: Tensor) -> str:
    return f"{list(features.shape)} {features.dtype} on {features.device}"
