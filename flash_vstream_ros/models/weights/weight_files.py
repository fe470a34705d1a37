"""Weight files of any kind of network, read by name; the error for a weight that is wrong names it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from flash_vstream_ros.models.interface import ModelError

from .checkpoint import INDEX, WEIGHTS, check_files, complain_of, first_line, listed_files, quiet, read_weights, sound

TORCH_WEIGHTS, TORCH_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the folder's weights, safetensors or older torch ones; ModelError when one is missing."""
    if (folder / INDEX).is_file() or (folder / WEIGHTS).is_file() or not _has_torch_weights(folder):
        check_files(folder)
        return listed_files(folder, WEIGHTS, INDEX)
    files = listed_files(folder, TORCH_WEIGHTS, TORCH_INDEX)
    for file in files:
        if not file.is_file():
            raise ModelError(f"The weights are incomplete: {file} does not exist. Download the model again.")
    return files


def read_tensors(folder: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """The tensors of the folder's files whose names are wanted, on the CPU; ModelError when a file is damaged."""
    found: dict[str, Tensor] = {}
    for file in weight_files(folder):
        found |= _read(file, wanted)
    return found


def fill(module: nn.Module, tensors: dict[str, Tensor], folder: Path, prefix: str) -> None:
    """Give `module` its weights, of the names that it has itself; `prefix` is what they have before that in the files.

    ModelError when one is missing, unknown or misshapen.
    """
    own = module.state_dict()
    found_and_expected = [(name, tensors[name].shape, own[name].shape) for name in own if name in tensors]
    complain_of(
        f"The weights in {folder}",
        "the model",
        missing=[prefix + name for name in own if name not in tensors],
        unknown=[prefix + name for name in tensors if name not in own],
        misshapen=[
            (prefix + name, found, expected) for name, found, expected in found_and_expected if found != expected
        ],
    )
    module.load_state_dict(tensors)


def load_part(
    kind: Any, folder: Path, config: Any, dtype: torch.dtype, attention: str, other: Callable[[str], bool]
) -> Any:
    """A transformers model of class `kind` with its weights from the folder, on the CPU; names of `other` parts may be
    there beside them.

    ModelError when a weight is missing, unknown or misshapen.
    """
    weight_files(folder)
    with quiet():
        try:
            network, loading = kind.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # reported by name below, with all the others
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, ImportError, SafetensorError, pickle.UnpicklingError) as error:
            raise ModelError(f"The weights in {folder} cannot be loaded: {first_line(error)}") from error
    unknown = [name for name in loading["unexpected_keys"] if not other(name)]
    complain_of(f"The weights in {folder}", "the model", loading["missing_keys"], unknown, loading["mismatched_keys"])
    return network


def _read(file: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    if file.suffix != ".bin":
        return read_weights(file, wanted)
    with sound(file):
        stored = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        return {name: tensor.clone() for name, tensor in stored.items() if wanted(name)}


def _has_torch_weights(folder: Path) -> bool:
    return (folder / TORCH_WEIGHTS).is_file() or (folder / TORCH_INDEX).is_file()
