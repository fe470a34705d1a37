"""Which attention heads rank the evidence of an answer: all alike, unless weights were fitted for the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .config_numbers import is_numbers

HEADS_KEY = "flash_vstream_evidence_heads"  # weights of the heads of all layers in a model's config.json


def head_weights(config: Any, layers: int, heads: int) -> Tensor:
    """Weights [layers, heads], which sum to 1. Those of a model's configuration, if they are usable; else all equal."""
    weights = getattr(config, HEADS_KEY, None)
    if not is_numbers(weights, layers * heads) or min(weights) < 0 or not any(weights):
        return torch.full((layers, heads), 1 / (layers * heads))
    chosen = torch.tensor(weights, dtype=torch.float64).view(layers, heads)
    return (chosen / chosen.sum()).float()
