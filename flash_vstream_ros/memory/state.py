"""State of a memory as tensors and plain values, from which an equal memory can be made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor


class MemoryState(NamedTuple):
    """Tensors on the CPU, by name, and values that JSON can express."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


class UnsupportedState(ValueError):
    """A memory that cannot be saved, or a state that no memory of this kind can have; the sentence says why."""


@contextmanager
def refused_if_malformed() -> Iterator[None]:
    """Raise UnsupportedState where values are missing, of a wrong type or do not fit together."""
    try:
        yield
    except UnsupportedState:
        raise
    except (LookupError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UnsupportedState(f"it is not the state of such a memory: {error!r}") from error


def on_cpu(tensor: Tensor) -> Tensor:
    """A copy on the CPU that later changes of `tensor` do not reach."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def packed(parts: Iterable[bytes]) -> Tensor:
    """All bytes in one tensor [bytes] uint8; `unpacked` needs the sizes."""
    return torch.frombuffer(bytearray(b"".join(parts)) or bytearray(1), dtype=torch.uint8)


def unpacked(joined: Tensor, sizes: Sequence[int]) -> Iterator[bytes]:
    """The parts of `packed`. Raises UnsupportedState if they are longer than the tensor."""
    raw, at = joined.numpy().tobytes(), 0
    if sum(sizes) > len(raw) or min(sizes, default=0) < 0:
        raise UnsupportedState(f"{len(sizes)} thumbnails have {sum(sizes)} bytes, and there are {len(raw)}")
    for size in sizes:
        yield raw[at : at + size]
        at += size
