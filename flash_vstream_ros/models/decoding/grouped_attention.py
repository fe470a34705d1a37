"""Attention kernels for grouped queries: keys and values are read in place, once for each group of heads.

On a CPU, transformers' kernel copies all keys and values for every head of a group if there are several new tokens.
This takes most of the time of a short question on a full memory. The kernel also reads a mask over the whole cache, so
chunked prefill takes twice as long as one pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

# Names under which transformers finds the kernels.
GROUPED = "vstream_grouped"
GROUPED_WEIGHTED = "vstream_grouped_weighted"
SDPA_WEIGHTED = "vstream_sdpa_weighted"
LARGE_MASK = 1 << 17  # elements; with a larger mask it is faster to merge two parts that need no mask


def grouped(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None, **_: Any
) -> tuple[Tensor, None]:
    """Causal attention of the last tokens, query [1, heads, new, dim], on key and value [1, groups, tokens, dim].

    Returns [1, new, heads, dim]. `mask` comes from `grouped_mask`.
    """
    new, before = query.shape[2], key.shape[2] - query.shape[2]
    if new == 1:
        output = F.scaled_dot_product_attention(by_group(query, key), key, value, scale=scaling)
        return output.reshape(1, 1, *query.shape[1::2]), None
    heads_per_group = query.shape[1] // key.shape[1]
    if mask is not None:
        output = F.scaled_dot_product_attention(query, key, value, mask, scale=scaling, enable_gqa=heads_per_group > 1)
        return output.transpose(1, 2).contiguous(), None
    # A copy for every head is cheap here, since the new tokens are few.
    own = [part[:, :, before:].repeat_interleave(heads_per_group, 1) for part in (key, value)]
    output, log_sum = _flash(query, *own, 0.0, True, scale=scaling)
    if before:
        old, old_log_sum = _flash(by_group(query, key), key[:, :, :before], value[:, :, :before], scale=scaling)
        old, old_log_sum = old.reshape(query.shape), old_log_sum.reshape(log_sum.shape)
        output = torch.lerp(output.float(), old.float(), torch.sigmoid(old_log_sum - log_sum)[..., None])
    return output.to(query.dtype).transpose(1, 2).contiguous(), None


def grouped_weighted(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, Tensor]:
    """`grouped`, and the attention weights [1, heads, 1, tokens] of the last token."""
    return grouped(module, query, key, value, mask, scaling)[0], last_token_weights(query, key, scaling)


def sdpa_weighted(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, Tensor]:
    """transformers' sdpa kernel, and the attention weights [1, heads, 1, tokens] of the last token."""
    output, _none = sdpa_attention_forward(module, query, key, value, mask, scaling=scaling)
    return output, last_token_weights(query, key, scaling)


def last_token_weights(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Attention weights [1, heads, 1, tokens] of the last of the new tokens; it attends to all keys.

    Costs one pass over the keys: a fraction of a decode step.
    """
    scores = by_group(query[:, :, -1:], key) @ key.transpose(2, 3) * scaling
    return torch.softmax(scores, dim=-1, dtype=torch.float32).reshape(1, -1, 1, key.shape[2])


def grouped_mask(*, q_length: int, kv_length: int, **described: Any) -> Tensor | None:
    """The mask [1, 1, new, tokens] for `grouped`; None for a single new token, or if no mask is faster."""
    if q_length == 1 or q_length * kv_length >= LARGE_MASK:
        return None
    return sdpa_mask(q_length=q_length, kv_length=kv_length, **described)


_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # also returns the log of the softmax denominator
AttentionInterface.register(GROUPED, grouped)
AttentionInterface.register(GROUPED_WEIGHTED, grouped_weighted)
AttentionInterface.register(SDPA_WEIGHTED, sdpa_weighted)
AttentionMaskInterface.register(GROUPED, grouped_mask)
AttentionMaskInterface.register(GROUPED_WEIGHTED, grouped_mask)
AttentionMaskInterface.register(SDPA_WEIGHTED, sdpa_mask)


def fastest_kernel(kernel: str, device: torch.device) -> str:
    """The kernel for a language model loaded with `kernel`. CUDA needs no replacement: it reads keys in place."""
    return GROUPED if kernel == "sdpa" and device.type == "cpu" else kernel


def weighted_kernel(kernel: str) -> str:
    """The kernel that computes the same as `kernel`, and also returns the attention weights of the last token.

    Fused kernels return no weights, and the eager kernel returns those of all tokens, which do not fit on the device.
    """
    return GROUPED_WEIGHTED if kernel == GROUPED else SDPA_WEIGHTED


@contextmanager
def use_kernel(config: Any, kernel: str) -> Iterator[None]:
    """Use another attention kernel for one text model in a `with` block."""
    before = config._attn_implementation
    config._attn_implementation = kernel
    try:
        yield
    finally:
        config._attn_implementation = before


def by_group(query: Tensor, key: Tensor) -> Tensor:
    """Convert queries from [1, heads, new, dim] to [1, groups, heads per group * new, dim]."""
    return query.reshape(1, key.shape[1], -1, query.shape[-1])
