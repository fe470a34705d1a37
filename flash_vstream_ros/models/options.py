"""How a model is to be loaded, whatever its family."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

POSITIONS = ("auto", "am_rope", "video")
QUANTIZATIONS = ("none", "8bit", "4bit")


class AttentionChoice(NamedTuple):
    """The kernel that attention runs with, and why."""

    kernel: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kernel} ({self.reason})"


@dataclass(frozen=True)
class LoadOptions:
    """What load_model was asked for, checked and without any "auto" left."""

    name: str  # as it was asked for: a folder or a hub id
    device: torch.device
    dtype: torch.dtype
    attention: AttentionChoice
    max_pixels: int  # of a frame
    instruction: str  # before every question
    vision_device: torch.device  # of the vision tower and the memory
    quantization: str = "none"  # one of QUANTIZATIONS: of the language model's weights
    positions: str = "auto"  # one of POSITIONS: how the memory stands in the prompt
    age_text: str = ""  # before each memory entry
    adapter: Path | None = None  # folder of a LoRA adapter over the model
