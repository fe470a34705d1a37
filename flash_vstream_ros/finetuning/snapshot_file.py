"""Writes and reads memory snapshots as safetensors files, without thumbnails."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from flash_vstream_ros.memory.slot import EntryKind, Grid, MemoryEntry, MemorySnapshot
from flash_vstream_ros.memory.token_snapshot import TokenSnapshot

ENTRY_VALUES = ("camera", "frame_id", "first_ns", "last_ns", "weight", "thumbnail_ns")
KINDS: dict[str, type[MemorySnapshot]] = {kind.__name__: kind for kind in (MemorySnapshot, TokenSnapshot)}


def write_snapshot(path: Path, snapshot: MemorySnapshot) -> None:
    """Write a snapshot; an interrupted write leaves no file. Raises OSError, and ValueError for a STAR snapshot."""
    kind = type(snapshot).__name__
    if kind not in KINDS:
        raise ValueError(f"a {kind} cannot be written: only memories of Flash Memory and of single slots or tokens can")
    values: dict[str, Any] = {"kind": kind, "entries": [_entry_values(entry) for entry in snapshot.entries]}
    tensors = {}
    for field in fields(snapshot):
        value = getattr(snapshot, field.name)
        if isinstance(value, Tensor):
            tensors[field.name] = value.detach().cpu().contiguous()
        elif field.name != "entries":
            values[field.name] = value
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    save_file(tensors, partial, {"values": json.dumps(values)})
    partial.replace(path)


def read_snapshot(path: Path) -> MemorySnapshot:
    """The snapshot in a file of `write_snapshot`, with tensors on the CPU."""
    with safe_open(path, "pt") as file:
        values = json.loads(file.metadata()["values"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    kind = KINDS[values.pop("kind")]
    values["entries"] = tuple(_entry(entry) for entry in values["entries"])
    values["grid"] = Grid(*values["grid"])
    if "counts" in values:
        values["counts"] = tuple(values["counts"])
    return kind(**tensors, **values)


def _entry_values(entry: MemoryEntry) -> dict[str, Any]:
    return {"kind": int(entry.kind), **{name: getattr(entry, name) for name in ENTRY_VALUES}}


def _entry(values: dict[str, Any]) -> MemoryEntry:
    return MemoryEntry(**{**values, "kind": EntryKind(values["kind"])}, thumbnail=b"")
