"""Which attention heads rank the evidence of an answer: all alike, unless weights were fitted for the model."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

HEADS_KEY = "flash_vstream_evidence_heads"  # weights of the heads of all layers in a model's config.json


def head_weights(config: Any, layers: int, heads: int) -> Tensor:
    """Weights [layers, heads], which sum to 1. Those of a model's configuration, if they are usable; else all equal."""
    weights = getattr(config, HEADS_KEY, None)
    if not _usable(weights, layers * heads):
        return torch.full((layers, heads), 1 / (layers * heads))
    chosen = torch.tensor(weights, dtype=torch.float64).view(layers, heads)
    return (chosen / chosen.sum()).float()


def _usable(weights: Any, count: int) -> bool:
    return (
        isinstance(weights, list)
        and len(weights) == count
        and all(isinstance(one, int | float) and math.isfinite(one) and one >= 0 for one in weights)
        and sum(weights) > 0
    )
