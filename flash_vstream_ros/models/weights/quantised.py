"""Weights of the language model in 8 or 4 bits, by bitsandbytes, as they are read: the whole ones never lie anywhere.

The vision tower and the head stay as they are: they are small, and what the memory keeps comes from the tower.
"""

from __future__ import annotations

from typing import Any

import torch

from flash_vstream_ros.models.interface import ModelError

KEPT = ["model.visual", "lm_head"]
BITS = {"8bit": 8 + 32 / 4096, "4bit": 4 + 8 / 64 + 32 / (64 * 256)}  # a weight with its share of the scales


def quantisation_config(kind: str, dtype: torch.dtype) -> Any:
    """What transformers is to be told; ModelError where the libraries are missing."""
    try:
        import accelerate  # noqa: F401
        import bitsandbytes  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(
            f"quantization {kind} needs bitsandbytes and accelerate ({error}): pip install bitsandbytes accelerate"
        ) from error
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=KEPT)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=KEPT,
    )
