"""Attention of several texts behind one memory, against attention with a mask over all pairs of tokens."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from flash_vstream_ros.training.branches import BranchMask, branched


@pytest.mark.parametrize("layer", [0, 1])
def test_attention_in_branches_is_that_of_the_mask_over_all_pairs(layer: int) -> None:
    memories, lengths = (700, 655), ((90, 5, 40, 200), (300, 1))
    memory, length = max(memories), max(memories) + max(map(sum, lengths))
    text, read = torch.zeros(2, length - memory, length, dtype=torch.bool), torch.ones(2, length, dtype=torch.bool)
    for row, (own, texts) in enumerate(zip(memories, lengths, strict=True)):
        branch = torch.arange(len(texts)).repeat_interleave(torch.tensor(texts))
        size = len(branch)
        text[row, :size, :own] = True
        text[row, :size, memory : memory + size] = (branch[:, None] == branch[None]).tril()
        text[row, size:, memory + size :] = True  # padding, which nothing reads
        read[row, memory + size :] = False
    mask = BranchMask(memory, min(memories), 300, text)
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(2, heads, length, 32, generator=generator).bfloat16().float().requires_grad_()
        for heads in (4, 2, 2)
    ]
    module = SimpleNamespace(layer_idx=layer, config=SimpleNamespace(num_hidden_layers=2))
    exact = F.scaled_dot_product_attention(*tensors, mask.dense(), enable_gqa=True).transpose(1, 2)
    rounded, _ = branched(module, *tensors, mask, 32**-0.5)
    if layer == 1:  # nothing reads the memory's outputs of the last layer
        assert not rounded[:, :memory].any()
        read[:, :memory] = False
    exact, rounded = exact[read], rounded[read]
    weight = torch.randn(exact.shape, generator=generator)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.02)
    for one, other in zip(
        *(torch.autograd.grad((out * weight).sum(), tensors) for out in (exact, rounded)), strict=True
    ):
        assert (one - other).norm() < 0.01 * one.norm()
