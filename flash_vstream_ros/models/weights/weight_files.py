"""Lists, checks and reads the weight files of a model folder."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from flash_vstream_ros.models.interface import ModelError

from .folder import read_json
from .load_errors import check_weight_names, first_line

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TORCH_WEIGHTS, TORCH_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The folder's weight files, in safetensors' or torch's older format. Raises ModelError if one is missing."""
    if (folder / INDEX).is_file() or (folder / WEIGHTS).is_file() or not _has_torch_weights(folder):
        return check_files(folder)
    return _existing(listed_files(folder, TORCH_WEIGHTS, TORCH_INDEX))


def check_files(folder: Path) -> list[Path]:
    """List the folder's safetensors files and check their headers. Raises ModelError if one is missing or damaged."""
    files = _existing(listed_files(folder, WEIGHTS, INDEX))
    for file in files:
        with open_weights(file) as weights:
            weights.keys()
    return files


def listed_files(folder: Path, single: str, index: str) -> list[Path]:
    """The files named in the folder's index, else `single`. Raises ModelError if a name leads out of the folder."""
    if not (folder / index).is_file():
        return [folder / single]
    listed = read_json(folder / index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ModelError(f"{folder / index} has no weight_map: download it again.")
    for name in listed.values():
        if not isinstance(name, str) or not name or not _is_inside(name):
            raise ModelError(
                f"{folder / index} names the weight file {str(name)[:200]!r}, which is not inside its folder: "
                "download it again."
            )
    return [folder / name for name in sorted(set(listed.values()))]


def read_weights(file: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose names are `wanted`, on the CPU. Raises ModelError if it is damaged."""
    with open_weights(file) as weights:
        return {name: weights.get_tensor(name) for name in weights.keys() if wanted(name)}  # noqa: SIM118


def read_tensors(folder: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """Like `read_weights`, from all weight files of a folder."""
    found: dict[str, Tensor] = {}
    for file in weight_files(folder):
        found |= read_weights(file, wanted) if file.suffix != ".bin" else _read_torch_weights(file, wanted)
    return found


def fill(module: nn.Module, tensors: dict[str, Tensor], folder: Path, prefix: str) -> None:
    """Load `tensors`, named as in `module`, into `module`. In the files, `prefix` precedes these names.

    Raises ModelError if a tensor is missing, unknown or misshapen.
    """
    own = module.state_dict()
    found_and_expected = [(name, tensors[name].shape, own[name].shape) for name in own if name in tensors]
    check_weight_names(
        f"The weights in {folder}",
        "the model",
        missing=[prefix + name for name in own if name not in tensors],
        unknown=[prefix + name for name in tensors if name not in own],
        misshapen=[
            (prefix + name, found, expected) for name, found, expected in found_and_expected if found != expected
        ],
    )
    module.load_state_dict(tensors)


@contextmanager
def open_weights(file: Path) -> Iterator[Any]:
    """Open a safetensors file. Raises ModelError if it is damaged."""
    with reading(file), safe_open(file, framework="pt") as weights:
        yield weights


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Convert errors from reading a weight file to a ModelError with its name and size."""
    try:
        yield
    except (SafetensorError, OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        size = f"{file.stat().st_size} bytes" if file.is_file() else "which does not exist"
        raise ModelError(
            f"{file} ({size}) is damaged or cut short ({first_line(error)}): download it again."
        ) from error


def unmap_weights(module: nn.Module) -> None:
    """Copy weights on the CPU from their memory-mapped file to memory, one tensor at a time.

    If the file were truncated while it is mapped, the next use of its weights would end the process by SIGBUS.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device.type == "cpu" and type(tensor) in (nn.Parameter, nn.Buffer, Tensor):
            tensor.data = tensor.data.clone()


def _existing(files: list[Path]) -> list[Path]:
    for file in files:
        if not file.is_file():
            raise ModelError(f"The weights are incomplete: {file} does not exist. Download the model again.")
    return files


def _is_inside(name: str) -> bool:
    """Returns True if `name` stays in its folder. Links are not resolved, since the hub's cache consists of them."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name


def _read_torch_weights(file: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    with reading(file):
        stored = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        return {name: tensor.clone() for name, tensor in stored.items() if wanted(name)}


def _has_torch_weights(folder: Path) -> bool:
    return (folder / TORCH_WEIGHTS).is_file() or (folder / TORCH_INDEX).is_file()
