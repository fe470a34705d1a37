"""Attention in which several texts follow one memory and do not attend to one another.

A mask over all pairs of tokens takes most of a training step on a CPU. Here memory tokens attend to earlier memory
tokens only, and text tokens to the memory and to their own text, in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionInterface

BRANCHED = "flash_vstream_branched"  # name of the kernel in transformers
ROWS = 240  # about this many memory tokens attend at once: their scores fit into a core's cache
TEXT_ROWS = 120  # the same for text tokens


class BranchMask(NamedTuple):
    """Which tokens attend to which, if every prompt is [memory, padding, texts, padding]."""

    memory: int  # length of memory and padding
    unpadded: int  # number of first tokens that every text attends to: the length of the shortest memory
    longest: int  # length of the longest text
    text: Tensor  # [batch, text, memory + text] bool: True where a text token attends

    def dense(self) -> Tensor:
        """The mask [batch, 1, length, length] over all pairs of tokens."""
        batch, _, length = self.text.shape
        causal = torch.ones(self.memory, length, dtype=torch.bool, device=self.text.device).tril()
        return torch.cat([causal.expand(batch, -1, -1), self.text], 1)[:, None]


def training_kernel(device: torch.device) -> str:
    """The attention kernel for training on a device."""
    return BRANCHED if device.type == "cpu" else "sdpa"


def branched(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: BranchMask, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attention of query [batch, heads, length, dim] to key and value [batch, groups, length, dim] on a CPU.

    Returns float32 [batch, length, heads, dim]; zeros for the memory in the last layer, since nothing reads it there.
    """
    last = module.layer_idx == module.config.num_hidden_layers - 1
    return _Branched.apply(query, key, value, mask, scaling, last), None


class _Branched(torch.autograd.Function):
    """Keeps the attention weights for the gradients, in bfloat16. Heads of a group are folded into its queries."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: BranchMask, scaling: float, text_only: bool
    ) -> Tensor:
        groups, length = key.shape[1:3]
        queries, heads = _folded(query * scaling, groups), query.shape[1] // groups
        keys, values = (part.to(torch.bfloat16).reshape(-1, length, part.shape[-1]) for part in (key, value))
        output, weights = torch.zeros_like(queries), []
        blocks = [*_blocks(mask, length, text_only)]
        for start, end, begin in blocks:
            rows = slice(start * heads, end * heads)
            scores = queries[:, rows] @ _seen(keys, mask.memory, begin, end).mT
            if end <= mask.memory:
                later = torch.ones(end - start, end - start, dtype=torch.bool).triu_(1).repeat_interleave(heads, 0)
                scores[:, :, start:].masked_fill_(later, float("-inf"))
            else:
                attends = mask.text[:, start - mask.memory : end - mask.memory]
                own = torch.cat([attends[..., mask.unpadded : mask.memory], attends[..., begin:end]], -1)
                by_head = scores.view(len(query), groups, end - start, heads, -1)
                by_head[..., mask.unpadded :].masked_fill_(~own[:, None, :, None], float("-inf"))
            weights.append(scores.softmax(-1))
            output[:, rows] = weights[-1] @ _seen(values, mask.memory, begin, end)
        ctx.save_for_backward(queries, keys, values, output, *weights)
        ctx.blocks, ctx.memory, ctx.scaling, ctx.groups = blocks, mask.memory, scaling, groups
        return _unfolded(output, groups, heads).transpose(1, 2).float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, output, *weights = ctx.saved_tensors
        length, heads, memory = keys.shape[1], queries.shape[1] // keys.shape[1], ctx.memory
        outward = _folded(gradient.transpose(1, 2), ctx.groups)
        mean = (outward.float() * output.float()).sum(-1, keepdim=True).to(torch.bfloat16)
        to_queries = torch.zeros_like(queries)
        to_keys, to_values = (torch.zeros_like(part, dtype=torch.float32) for part in (keys, values))
        for (start, end, begin), weight in zip(ctx.blocks, weights, strict=True):
            rows = slice(start * heads, end * heads)
            _add(to_values, weight.mT @ outward[:, rows], memory, begin, end)
            to_scores = outward[:, rows] @ _seen(values, memory, begin, end).mT
            to_scores.sub_(mean[:, rows]).mul_(weight)
            to_queries[:, rows] = to_scores @ _seen(keys, memory, begin, end)
            _add(to_keys, to_scores.mT @ queries[:, rows], memory, begin, end)
        to_query = _unfolded(to_queries, ctx.groups, heads).float() * ctx.scaling
        of_groups = (len(to_query), ctx.groups, length, -1)
        return to_query, to_keys.view(of_groups), to_values.view(of_groups), None, None, None


def _blocks(mask: BranchMask, length: int, text_only: bool) -> Iterator[tuple[int, int, int]]:
    """Yields (start, end, begin): tokens from start to end attend to memory, and to texts from `begin` to `end`."""
    memory = mask.memory
    count = 0 if text_only else round(memory / ROWS) or min(memory, 1)
    for part in range(count):
        yield memory * part // count, memory * (part + 1) // count, memory
    for start in range(memory, length, TEXT_ROWS):
        yield start, min(start + TEXT_ROWS, length), max(start - mask.longest, memory)


def _seen(part: Tensor, memory: int, begin: int, end: int) -> Tensor:
    """Tokens that a block attends to, from [batch * groups, length, dim]."""
    return part[:, :end] if begin <= memory else torch.cat([part[:, :memory], part[:, begin:end]], 1)


def _add(total: Tensor, share: Tensor, memory: int, begin: int, end: int) -> None:
    """Add the gradients of `_seen` tokens to those of all tokens."""
    if begin <= memory:
        total[:, :end] += share
    else:
        total[:, :memory] += share[:, :memory]
        total[:, begin:end] += share[:, memory:]


def _folded(part: Tensor, groups: int) -> Tensor:
    """Convert [batch, heads, length, dim] to bfloat16 [batch * groups, length * heads per group, dim]."""
    batch, heads, length, dim = part.shape
    by_group = part.to(torch.bfloat16).reshape(batch, groups, heads // groups, length, dim)
    return by_group.transpose(2, 3).reshape(batch * groups, -1, dim)


def _unfolded(part: Tensor, groups: int, heads: int) -> Tensor:
    """The inverse of `_folded`; `heads` is their number per group."""
    dim = part.shape[-1]
    return part.view(-1, groups, part.shape[1] // heads, heads, dim).transpose(2, 3).flatten(1, 2)


AttentionInterface.register(BRANCHED, branched)
