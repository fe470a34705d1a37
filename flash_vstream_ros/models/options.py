"""Options for loading a model, common to all families."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

POSITIONS = ("auto", "am_rope", "video")
QUANTIZATIONS = ("none", "8bit", "4bit")


class AttentionChoice(NamedTuple):
    """The attention kernel, and why it was chosen."""

    kernel: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kernel} ({self.reason})"


@dataclass(frozen=True)
class LoadOptions:
    """Checked arguments of load_model, with "auto" resolved."""

    name: str  # as passed to load_model: a folder or a hub id
    device: torch.device
    dtype: torch.dtype
    attention: AttentionChoice
    max_pixels: int  # largest area of a resized frame
    instruction: str  # prepended to every question
    vision_device: torch.device  # of the vision tower and the memory
    quantization: str = "none"  # of the language model: one of QUANTIZATIONS
    positions: str = "auto"  # position encoding of the memory: one of POSITIONS; the family resolves "auto"
    age_text: str = ""  # text before each memory entry; "": none
    adapter: Path | None = None  # folder of a LoRA adapter to merge
