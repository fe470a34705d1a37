"""Counts the bytes of tensors and images that an object holds, by following its attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch


def reachable_bytes(part: object, seen: set[int] | None = None) -> Iterator[int]:
    """Bytes of each tensor storage and each image that can be reached from `part`, each counted once."""
    seen = set() if seen is None else seen
    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, torch.Tensor):
        if part.untyped_storage().data_ptr() not in seen:
            seen.add(part.untyped_storage().data_ptr())
            yield part.untyped_storage().nbytes()
    elif isinstance(part, bytes):
        yield len(part)
    elif isinstance(part, dict):
        for key, value in part.items():
            yield from reachable_bytes(key, seen)
            yield from reachable_bytes(value, seen)
    elif hasattr(part, "__dict__"):
        yield from reachable_bytes(vars(part), seen)
    elif isinstance(part, Iterable) and not isinstance(part, str):
        for value in part:
            yield from reachable_bytes(value, seen)
