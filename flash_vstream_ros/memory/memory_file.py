"""Writes and reads a memory as a safetensors file; the metadata has values, a checksum, the model and the policy.

A file is replaced as a whole: a temporary file is written, synchronised and renamed. So a crash or a power loss leaves
either the old file or the new one. docs/concepts/restart.md describes the format.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .file_erasure import erase_file, synchronise
from .private_file import write_private
from .state import MemoryState

FORMAT = "3"


class MemoryFileError(ValueError):
    """A file that is not a memory of this version, or is damaged; the message names the file and says why."""


def write_memory(path: Path, state: MemoryState, about: Mapping[str, str], erase: bool = False) -> int:
    """Replace `path` by a file with `state`, readable by its owner only. Returns the size of the file.

    `about` names the model and policy that the state was made with. `erase`: overwrite the old file's bytes. If it
    raises OSError, `path` is unchanged.
    """
    values = json.dumps({"about": dict(about), "state": state.values}, sort_keys=True)
    tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
    metadata = {"flash_vstream_memory": FORMAT, "values": values, "sha256": _checksum(tensors, values)}
    raw = save(tensors, metadata)
    write_private(path, raw, erase)
    return len(raw)


def delete_memory(path: Path) -> None:
    """Overwrite and delete a file and the temporary file of an interrupted write. Raises OSError."""
    for each in (path, path.with_suffix(".partial")):
        if each.exists():
            erase_file(each)
    synchronise(path.parent)


def read_memory(path: Path) -> tuple[MemoryState, dict[str, str]]:
    """The state in a file and the model and policy it was made with. Raises MemoryFileError or OSError."""
    raw = path.read_bytes()
    try:
        metadata = _metadata(raw)
        found = metadata.get("flash_vstream_memory")
        if found != FORMAT:
            written = f"of format {found}" if found else "no memory"
            raise MemoryFileError(f"{path} is {written}; this version reads format {FORMAT}")
        tensors = load(raw)
        if metadata["sha256"] != _checksum(tensors, metadata["values"]):
            raise MemoryFileError(f"{path} is damaged: its checksum is wrong")
        values = json.loads(metadata["values"])
        return MemoryState(tensors, values["state"]), values["about"]
    except (SafetensorError, struct.error, LookupError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, MemoryFileError):
            raise
        raise MemoryFileError(f"{path} is damaged: {error!r}") from error


def _metadata(raw: bytes) -> dict[str, Any]:
    """The metadata in the header of a safetensors file."""
    (size,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + size])
    return dict(header["__metadata__"])


def _checksum(tensors: Mapping[str, Tensor], values: str) -> str:
    """SHA-256 over the values and every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(values.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
