"""Attention that reads keys and values in place equals that of transformers' own kernels."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hub_models import FAMILIES, save_hub_model
from transformers.masking_utils import sdpa_mask
from transformers.models.qwen2_vl.modeling_qwen2_vl import ALL_ATTENTION_FUNCTIONS, eager_attention_forward

from flash_vstream_ros.demo.world import World
from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig
from flash_vstream_ros.models.decoding import grouped_attention, language_model
from flash_vstream_ros.models.decoding.greedy import GreedyGeneration
from flash_vstream_ros.models.decoding.grouped_attention import (
    GROUPED,
    fastest_kernel,
    grouped,
    grouped_mask,
    grouped_weighted,
    sdpa_weighted,
    use_kernel,
)
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.offline import slots_of

SHAPES = [(4, 2, 16, 37), (6, 6, 8, 20), (28, 4, 128, 300), (12, 2, 128, 1)]  # heads, groups, width, tokens


def states(heads: int, groups: int, dim: int, tokens: int, new: int) -> tuple[Any, ...]:
    draw = torch.Generator().manual_seed(heads + tokens)
    room = torch.randn(2, 1, groups, tokens + 5, dim, generator=draw)  # as in a cache with unused capacity at its end
    module = SimpleNamespace(num_key_value_groups=heads // groups, training=False, is_causal=True)
    return module, torch.randn(1, heads, new, dim, generator=draw), *room[..., :tokens, :]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("new", [1, 2, 9, None])
@pytest.mark.parametrize("large", [0, 1 << 17])
def test_the_grouped_kernel_equals_that_of_transformers(
    shape: tuple[int, int, int, int], new: int | None, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouped_attention, "LARGE_MASK", large)
    tokens = shape[3]
    new = min(new or tokens, tokens)
    module, query, key, value = states(*shape, new)
    described = {"batch_size": 1, "q_length": new, "kv_length": tokens, "q_offset": tokens - new}
    expected, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, sdpa_mask(**described), scaling=0.2)
    mask = grouped_mask(**described)
    assert (mask is None) == (new in (1, tokens) or new * tokens >= large)
    output, _ = grouped(module, query, key, value, mask, scaling=0.2)
    assert output.shape == expected.shape
    assert (output - expected).abs().max() < 1e-5
    rounded, _ = grouped(module, *(states.bfloat16() for states in (query, key, value)), mask, scaling=0.2)
    assert (rounded.float() - expected).abs().max() < 0.05


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("new", [1, 9, None])
@pytest.mark.parametrize("kernel", [grouped_weighted, sdpa_weighted])
def test_a_weighted_kernel_also_returns_the_weights_of_the_last_token(
    shape: tuple[int, int, int, int], new: int | None, kernel: Any
) -> None:
    tokens = shape[3]
    new = min(new or tokens, tokens)
    module, query, key, value = states(*shape, new)
    mask = sdpa_mask(batch_size=1, q_length=new, kv_length=tokens, q_offset=tokens - new, allow_is_causal_skip=False)
    additive = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
    expected, weights = eager_attention_forward(module, query, key, value, additive, scaling=0.2)
    output, own = kernel(module, query, key, value, mask, scaling=0.2)
    assert output.shape == expected.shape
    assert own.shape == weights[:, :, -1:].shape
    assert (output - expected).abs().max() < 1e-5
    assert (own - weights[:, :, -1:]).abs().max() < 1e-6


def test_only_sdpa_on_a_cpu_is_replaced_by_the_grouped_kernel() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert fastest_kernel("sdpa", cpu) == GROUPED
    assert [fastest_kernel("eager", cpu), fastest_kernel("sdpa", cuda), fastest_kernel("flash_attention_2", cuda)] == [
        "eager",
        "sdpa",
        "flash_attention_2",
    ]


def test_the_attention_kernel_is_restored_when_the_model_raises() -> None:
    config = SimpleNamespace(_attn_implementation="sdpa")
    with pytest.raises(RuntimeError), use_kernel(config, GROUPED):
        raise RuntimeError
    assert config._attn_implementation == "sdpa"


@pytest.mark.parametrize("family", ["tiny-random", *FAMILIES])
def test_an_answer_equals_that_with_the_kernels_of_transformers(
    family: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = family if family == "tiny-random" else str(save_hub_model(tmp_path, family))
    model: Any = load_model(name, device="cpu", max_pixels=112 * 112)
    memory = FlashMemory(FlashMemoryConfig(csm_slots=4, dam_slots=2))
    world, times = World(0, minutes=1.0), range(0, 48, 4)  # [s]
    for slot in slots_of(model, map(world.frame, times), [t * 10**9 for t in times]):
        memory.insert(slot)
    snapshot = memory.snapshot()

    def answered() -> tuple[GreedyGeneration, list[torch.Tensor]]:
        answer = model.answer(snapshot, "Where is it?", 8)
        answer._vocabulary = replace(answer._vocabulary, stops=frozenset())
        logits = []
        for _ in range(8):
            with torch.inference_mode():
                answer._logits = answer._next_logits()
            logits.append(answer._logits)
            next(answer)
        return answer, logits

    ours, our_logits = answered()
    monkeypatch.setattr(language_model, "fastest_kernel", lambda kernel, _: kernel)
    monkeypatch.setattr(language_model, "weighted_kernel", lambda _: "eager")
    plain, plain_logits = answered()
    assert ours._stream._ids == plain._stream._ids
    for one, other in zip(our_logits, plain_logits, strict=True):
        assert (one - other).abs().max() < 1e-4
    assert sum(plain.attention) > 0
    assert list(ours.attention) == pytest.approx(list(plain.attention), abs=1e-5)
