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
from transformers.masking_utils import sdpa_mask

GROUPED = "flash_vstream_grouped"  # what transformers knows it by
WEIGHED = "flash_vstream_weighed"  # the same for one new token, and returns its weights
LARGE_MASK = 1 << 17  # elements from which on reading it takes longer than joining two parts that need none


def grouped(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None, **_: Any
) -> tuple[Tensor, None]:
    """Query [1, heads, new, dim] of the last tokens, key and value [1, groups, tokens, dim], to [1, new, heads, dim].

    `mask` is that of `mask_of`: each token sees itself and all before it.
    """
    new, before = query.shape[2], key.shape[2] - query.shape[2]
    if new == 1:
        output = F.scaled_dot_product_attention(by_group(query, key), key, value, scale=scaling)
        return output.reshape(1, 1, *query.shape[1::2]), None
    share = query.shape[1] // key.shape[1]
    if mask is not None:
        output = F.scaled_dot_product_attention(query, key, value, mask, scale=scaling, enable_gqa=share > 1)
        return output.transpose(1, 2).contiguous(), None
    own = [part[:, :, before:].repeat_interleave(share, 1) for part in (key, value)]  # these are few
    output, weight = _flash(query, *own, 0.0, True, scale=scaling)
    if before:
        old, old_weight = _flash(by_group(query, key), key[:, :, :before], value[:, :, :before], scale=scaling)
        old, old_weight = old.reshape(query.shape), old_weight.reshape(weight.shape)
        output = torch.lerp(output.float(), old.float(), torch.sigmoid(old_weight - weight)[..., None])
    return output.to(query.dtype).transpose(1, 2).contiguous(), None


def weighed(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, Tensor]:
    """As `grouped` for one new token that sees all; also its weights [1, heads, 1, tokens]."""
    scores = by_group(query, key) @ key.transpose(2, 3) * scaling
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32)
    output = weights.to(value.dtype) @ value
    return output.reshape(1, 1, *query.shape[1::2]), weights.reshape(1, -1, 1, key.shape[2])


def mask_of(*, q_length: int, kv_length: int, **described: Any) -> Tensor | None:
    """The mask [1, 1, new, tokens] of `grouped`; None where one new token needs none, or many are faster without."""
    if q_length == 1 or q_length * kv_length >= LARGE_MASK:
        return None
    return sdpa_mask(q_length=q_length, kv_length=kv_length, **described)


_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # also returns the logarithm of what it divides by
AttentionInterface.register(GROUPED, grouped)
AttentionInterface.register(WEIGHED, weighed)
AttentionMaskInterface.register(GROUPED, mask_of)


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


def by_group(query: Tensor, key: Tensor) -> Tensor:
    """The queries of each head [1, heads, new, dim] as queries of each group [1, groups, heads of it * new, dim]."""
    return query.reshape(1, key.shape[1], -1, query.shape[-1])
