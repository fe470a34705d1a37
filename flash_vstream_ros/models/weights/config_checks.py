"""Checks a model's config.json before memory is allocated for the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from flash_vstream_ros.models.interface import ModelError

from .load_errors import first_line, quiet_transformers

COUNTS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "depth",
    "embed_dim",
    "num_heads",
    "patch_size",
    "spatial_merge_size",
    "temporal_patch_size",
)
LAYER_COUNTS = ("num_hidden_layers", "depth")
MAX_LAYERS = 1000  # published models have fewer than 200; a network is built at a millisecond per layer
# Largest number of weights per byte of weight files: 2 if weights have 4 bits, doubled since weights may be tied.
WEIGHTS_PER_BYTE = 4


def check_counts(config: Any, file: Path) -> None:
    """Raise ModelError if a size in a transformers configuration or its parts is not a positive number."""
    for part in _parts(config):
        for name in COUNTS:
            value = getattr(part, name, 1)
            if name == "num_key_value_heads" and value is None:
                continue
            own = getattr(part, "attribute_map", {}).get(name, name)  # its name in the file
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ModelError(f"{file}: {own} is {str(value)[:100]}, not a positive number: download it again.")
            if name in LAYER_COUNTS and value > MAX_LAYERS:
                raise ModelError(f"{file}: {own} is {value}, more than {MAX_LAYERS}: download it again.")


def check_network_size(kind: Any, config: Any, folder: Path, files: Sequence[Path]) -> None:
    """Compare the size of the network, built without allocating memory, with the size of its weight files.

    Raises ModelError if it cannot be built, or if the files are too small for its weights.
    """
    file = folder / "config.json"
    try:
        with quiet_transformers(), torch.device("meta"):
            weights = sum(parameter.numel() for parameter in kind(config).parameters())
    except Exception as error:
        raise ModelError(f"{file} describes a network that cannot be built: {first_line(error)}") from error
    stored = sum(weight_file.stat().st_size for weight_file in files)
    if weights > WEIGHTS_PER_BYTE * stored:
        raise ModelError(
            f"{file} describes a network of {weights} weights, but the weight files have {stored} bytes: "
            "they do not belong together; download the model again."
        )


def _parts(config: Any) -> Iterator[Any]:
    yield config
    for name in ("text_config", "vision_config"):
        part = getattr(config, name, None)
        if part is not None:
            yield part
