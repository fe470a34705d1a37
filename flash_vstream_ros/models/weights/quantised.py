"""Quantises the language model to 8 or 4 bits with bitsandbytes while its weights are read.

The vision tower and the head are not quantised: they are small, and the memory consists of the tower's features.
"""

from __future__ import annotations

from typing import Any

import torch

from flash_vstream_ros.models.interface import ModelError

NOT_QUANTISED = ["model.visual", "lm_head"]
BITS = {"8bit": 8 + 32 / 4096, "4bit": 4 + 8 / 64 + 32 / (64 * 256)}  # bits per weight, including scales


def quantisation_config(kind: str, dtype: torch.dtype) -> Any:
    """The quantisation configuration of transformers for `kind`. Raises ModelError if a library is missing."""
    try:
        import accelerate  # noqa: F401
        import bitsandbytes  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(
            f"quantization {kind} needs bitsandbytes and accelerate ({error}): pip install bitsandbytes accelerate"
        ) from error
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=NOT_QUANTISED)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=NOT_QUANTISED,
    )
