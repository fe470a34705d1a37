"""Qwen2-VL 2B and 7B, and whatever was trained from them with Flash Memory in front."""

from __future__ import annotations

from pathlib import Path

from flash_vstream_ros.models.checkpoint import load_network, load_tokenizer, read_config
from flash_vstream_ros.models.options import LoadOptions
from flash_vstream_ros.models.qwen2_vl import Qwen2VL


def load(folder: Path, options: LoadOptions) -> Qwen2VL:
    """The model of a folder in the hub's layout; ModelError."""
    tokenizer = load_tokenizer(folder, read_config(folder))  # first: weights take minutes
    network = load_network(folder, options.device, options.dtype, options.attention.kernel)
    return Qwen2VL(
        network, tokenizer, options.name, True, str(options.attention), options.max_pixels, options.instruction
    )
