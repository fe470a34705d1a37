"""State of a memory as tensors and plain values, to save and restore it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .pose import pose_from, pose_values
from .region import Region


class MemoryState(NamedTuple):
    """Tensors on the CPU, by name, and values that JSON can express."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


class UnsupportedState(ValueError):
    """A memory that cannot be saved, or a state that no memory of this kind can have; the message says why."""


@contextmanager
def refused_if_malformed() -> Iterator[None]:
    """Raise UnsupportedState if values are missing, have a wrong type or contradict each other."""
    try:
        yield
    except UnsupportedState:
        raise
    except (LookupError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UnsupportedState(f"it is not the state of such a memory: {error!r}") from error


def saved_values(recordings: Sequence[Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """The values `names` of slots or exemplars, their places, and the sizes of their thumbnails."""
    return [
        {
            **{name: getattr(each, name) for name in names},
            "pose": pose_values(each.pose),
            "static_region": each.static_region,
            "thumbnail_bytes": len(each.thumbnail),
        }
        for each in recordings
    ]


def saved_place(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields `pose` and `static_region` of a slot or exemplar, from one of the results of `saved_values`."""
    region = values.get("static_region")  # memories that were saved without it have none
    return {"pose": pose_from(values["pose"]), "static_region": None if region is None else Region.from_values(region)}


def saved_tensors(low: Tensor, detail: Tensor, recordings: Sequence[Any]) -> dict[str, Tensor]:
    """Copies of the features of slots or exemplars, and their thumbnails."""
    return {
        "low": on_cpu(low),  # [slots, low_patches, dim]
        "detail": on_cpu(detail),  # [slots, detail_tokens, width]
        "thumbnails": packed(each.thumbnail for each in recordings),
    }


def saved_features(
    tensors: Mapping[str, Tensor], values: Sequence[Mapping[str, Any]], device: torch.device
) -> tuple[Tensor, Tensor, list[bytes]]:
    """Features [slots, ...] on `device` and thumbnails, from the results of `saved_tensors` and `saved_values`.

    Raises UnsupportedState if their numbers differ.
    """
    low, detail = tensors["low"].to(device), tensors["detail"].to(device)
    if not len(low) == len(detail) == len(values):
        raise UnsupportedState(f"{len(values)} slots have {len(low)} and {len(detail)} feature maps")
    return low, detail, list(unpacked(tensors["thumbnails"], [each["thumbnail_bytes"] for each in values]))


def on_cpu(tensor: Tensor) -> Tensor:
    """A copy of `tensor` on the CPU, even if the tensor is there already."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def packed(parts: Iterable[bytes]) -> Tensor:
    """All bytes in one tensor [bytes] uint8; `unpacked` needs the sizes of the parts."""
    return torch.frombuffer(bytearray(b"".join(parts)) or bytearray(1), dtype=torch.uint8)


def unpacked(joined: Tensor, sizes: Sequence[int]) -> Iterator[bytes]:
    """Split `joined` [bytes] uint8, the result of `packed`, into parts. Raises UnsupportedState if it is too short."""
    raw, at = joined.numpy().tobytes(), 0
    if sum(sizes) > len(raw) or min(sizes, default=0) < 0:
        raise UnsupportedState(f"{len(sizes)} thumbnails need {sum(sizes)} bytes, and there are {len(raw)}")
    for size in sizes:
        yield raw[at : at + size]
        at += size
