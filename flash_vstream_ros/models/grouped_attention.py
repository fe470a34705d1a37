"""Grouped-query attention that reads the keys and values of a group of heads where they lie, once.

What transformers has for several new tokens on a CPU, and for one whose weights are wanted, first writes a copy of all
keys and values for every head of a group: with a full memory that is most of the time that a short question takes. And
it reads a mask of all that is known, which makes a prompt in portions twice as slow as the same one read at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

GROUPED = "flash_vstream_grouped"  # what transformers knows it by
WEIGHED = "flash_vstream_weighed"  # the same for one new token, and returns its weights


def grouped(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None, **_: Any
) -> tuple[Tensor, None]:
    """Query [1, heads, new, dim] of the last tokens, key and value [1, groups, tokens, dim], to [1, new, heads, dim].

    Each token sees itself and all before it; no mask is read.
    """
    new, before = query.shape[2], key.shape[2] - query.shape[2]
    if new == 1:
        output = F.scaled_dot_product_attention(_by_group(query, key), key, value, scale=scaling)
        return output.reshape(1, 1, *query.shape[1::2]), None
    share = query.shape[1] // key.shape[1]
    own = [part[:, :, before:].repeat_interleave(share, 1) for part in (key, value)]  # these are few
    output, weight = _flash(query, *own, 0.0, True, scale=scaling)
    if before:
        old, old_weight = _flash(_by_group(query, key), key[:, :, :before], value[:, :, :before], scale=scaling)
        old, old_weight = old.reshape(query.shape), old_weight.reshape(weight.shape)
        output = torch.lerp(output.float(), old.float(), torch.sigmoid(old_weight - weight)[..., None])
    return output.to(query.dtype).transpose(1, 2).contiguous(), None


def weighed(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, Tensor]:
    """As `grouped` for one new token that sees all; also its weights [1, heads, 1, tokens]."""
    scores = _by_group(query, key) @ key.transpose(2, 3) * scaling
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32)
    output = weights.to(value.dtype) @ value
    return output.reshape(1, 1, *query.shape[1::2]), weights.reshape(1, -1, 1, key.shape[2])


def no_mask(**_: Any) -> None:
    """Of one sequence that is read from its first token to its last."""


_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # also returns the logarithm of what it divides by
AttentionInterface.register(GROUPED, grouped)
AttentionInterface.register(WEIGHED, weighed)
AttentionMaskInterface.register(GROUPED, no_mask)


def fastest(kernel: str, device: torch.device) -> str:
    """What a language model loaded with `kernel` reads with: CUDA's kernels read keys in place by themselves."""
    return GROUPED if kernel == "sdpa" and device.type == "cpu" else kernel


@contextmanager
def attending(config: Any, kernel: str) -> Iterator[None]:
    """Switches one text model to another kernel, and back."""
    before = config._attn_implementation
    config._attn_implementation = kernel
    try:
        yield
    finally:
        config._attn_implementation = before


def _by_group(query: Tensor, key: Tensor) -> Tensor:
    """The queries of each head [1, heads, new, dim] as queries of each group [1, groups, heads of it * new, dim]."""
    return query.reshape(1, key.shape[1], -1, query.shape[-1])
