"""Optimisers of the language model: Muon for the matrices of its layers, AdamW for the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import AdamW, Optimizer


def optimisers(network: Any, matrix_rate: float, rate: float) -> list[Optimizer]:
    """Optimisers of the layers' matrices, and of all other parameters that require gradients.

    Muon's updates are orthogonal, so rare directions are learned as fast as common ones: for example those that find
    one entry among many (Jordan et al. 2024; scaled to AdamW's updates as in Liu et al. 2025). It needs PyTorch 2.9.
    """
    matrices = [weight for weight in network.model.language_model.layers.parameters() if weight.ndim == 2]
    known = set(matrices)
    others = [weight for weight in network.parameters() if weight.requires_grad and weight not in known]
    return [
        torch.optim.Muon(matrices, matrix_rate, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]
