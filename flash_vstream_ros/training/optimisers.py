"""How the language model learns: Muon for its layers' matrices, AdamW for all else, products in bfloat16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

FLOAT32 = "flash_vstream_float32"  # what transformers knows the kernel by


def optimisers(network: Any, matrix_rate: float, rate: float) -> list[Optimizer]:
    """Of the layers' matrices, and of all else that requires gradients.

    Muon's steps are orthogonal: rare directions, such as those that find one entry among many, are learned as fast as
    common ones (Jordan et al. 2024; scaled to AdamW's steps as by Liu et al. 2025). PyTorch has it from 2.9 on.
    """
    matrices = [weight for weight in network.model.language_model.layers.parameters() if weight.ndim == 2]
    known = set(matrices)
    others = [weight for weight in network.parameters() if weight.requires_grad and weight not in known]
    return [
        torch.optim.Muon(matrices, matrix_rate, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def kernel_beside_bfloat16(device: torch.device) -> str:
    """The attention kernel for a model whose other products are in bfloat16: on a CPU float32 is the faster one."""
    return FLOAT32 if device.type == "cpu" else "sdpa"


def _in_float32(module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
    with torch.autocast(query.device.type, enabled=False):
        return sdpa_attention_forward(module, query.float(), key.float(), value.float(), *args, **kwargs)


AttentionInterface.register(FLOAT32, _in_float32)
AttentionMaskInterface.register(FLOAT32, sdpa_mask)
