"""The decode step over the whole capacity of a cache computes what the network's own step does."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from memory_slots import QUESTIONS, assert_equal_answers, features_of, memory_of, prefill_all, slot_of

from flash_vstream_ros.models.decoding import prefix_cache as prefix_cache_module
from flash_vstream_ros.models.decoding.cuda_graph import (
    CapturedDecodeStep,
    Run,
    captured_decode_step,
    full_capacity_attention,
)
from flash_vstream_ros.models.decoding.greedy import GreedyGeneration
from flash_vstream_ros.models.decoding.grouped_attention import grouped
from flash_vstream_ros.models.decoding.kv_cache import BLOCK, InPlaceCache
from flash_vstream_ros.models.decoding.language_model import empty_cache, forward
from flash_vstream_ros.models.decoding.prefix_cache import TextPrefixCache
from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.qwen2_vl import Qwen2VL


def run_directly(run: Run) -> Run:
    """Stands in for CUDA graph capture on a CPU: runs the step instead of a replay."""
    return run


def loaded(name: str, device: str = "cpu") -> Qwen2VL:
    model = load_model(name, device=device, dtype="float32", max_pixels=112 * 112)
    assert isinstance(model, Qwen2VL)
    return model


@pytest.fixture(scope="module", params=["tiny-random", "household"])
def model(request: pytest.FixtureRequest) -> Qwen2VL:
    return loaded(request.param)


@pytest.fixture(scope="module")
def tiny() -> Qwen2VL:
    return loaded("tiny-random")


def prefill_random(model: Qwen2VL, cache: InPlaceCache, length: int) -> None:
    """Random embeddings at ascending ids."""
    draw = torch.Generator().manual_seed(length)
    embeds = 0.1 * torch.randn(1, length, model.network.config.text_config.hidden_size, generator=draw)
    with torch.inference_mode():
        forward(model.network, cache, embeds, torch.arange(length).expand(3, 1, -1))


@torch.inference_mode()
def plain(model: Qwen2VL, cache: InPlaceCache, token: int, position: int) -> torch.Tensor:
    embeds = model.network.get_input_embeddings()(torch.tensor([[token]]))
    output = forward(model.network, cache, embeds, torch.full((3, 1, 1), position))
    return model.network.lm_head(output.last_hidden_state[0, -1])


@pytest.mark.parametrize(("heads", "groups", "dim"), [(4, 2, 16), (28, 4, 128), (6, 6, 8)])
@pytest.mark.parametrize("used", [1, 255, 256, 300, 1024])
def test_the_kernel_attends_only_to_the_used_part_of_the_cache(heads: int, groups: int, dim: int, used: int) -> None:
    draw = torch.Generator().manual_seed(used)
    key, value = torch.randn(2, 1, groups, BLOCK, dim, generator=draw)
    query = torch.randn(1, heads, 1, dim, generator=draw)
    module = SimpleNamespace()
    expected, _ = grouped(module, query, key[:, :, :used], value[:, :, :used], None, 0.2)
    mask = (torch.arange(BLOCK) < used)[None, None, None]
    output, _ = full_capacity_attention(module, query, key, value, mask, 0.2)
    assert output.shape == expected.shape
    assert (output - expected).abs().max() < 1e-5
    rounded, _ = full_capacity_attention(module, query.bfloat16(), key.bfloat16(), value.bfloat16(), mask, 0.2)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - expected).abs().max() < 0.05


@pytest.mark.parametrize("length", [1, 40, BLOCK - 3])
def test_captured_steps_equal_the_network_also_when_the_cache_grows(model: Qwen2VL, length: int) -> None:
    ours, theirs = empty_cache(model.network), empty_cache(model.network)
    prefill_random(model, ours, length)
    prefill_random(model, theirs, length)
    step = CapturedDecodeStep(model.network, run_directly)
    for at, token in enumerate([5, 9, 2, 2, 7, 11]):
        logits = step(ours, token, length + 3 * at)
        assert logits is not None
        expected = plain(model, theirs, token, length + 3 * at)
        assert (logits - expected).abs().max() < 1e-4 * expected.abs().max()
        assert ours.length == theirs.length == length + at + 1
        for layer, other in zip(ours.layers, theirs.layers, strict=True):
            assert (layer.keys - other.keys).abs().max() < 1e-4
            assert (layer.values - other.values).abs().max() < 1e-4


def test_a_step_is_captured_once_per_cache_allocation(tiny: Qwen2VL) -> None:
    captured = []
    cache = empty_cache(tiny.network)
    prefill_random(tiny, cache, 30)
    step = CapturedDecodeStep(tiny.network, lambda run: (captured.append(run), run)[1])
    for token in range(3):
        step(cache, token, 30 + token)
    cache.truncate(20)
    step(cache, 1, 20)
    assert len(captured) == 1
    prefill_random(tiny, cache, BLOCK)
    step(cache, 1, 2 * BLOCK)
    assert len(captured) == 2
    other = empty_cache(tiny.network)
    prefill_random(tiny, other, 30)
    step(other, 1, 30)
    assert len(captured) == 3


def test_states_of_a_truncated_answer_are_not_attended_to(tiny: Qwen2VL) -> None:
    fresh, used = empty_cache(tiny.network), empty_cache(tiny.network)
    prefill_random(tiny, fresh, 30)
    prefill_random(tiny, used, 30)
    step, again = CapturedDecodeStep(tiny.network, run_directly), CapturedDecodeStep(tiny.network, run_directly)
    for token in range(40):
        step(used, token, 30 + token)
    used.truncate(30)
    logits, expected = step(used, 7, 30), again(fresh, 7, 30)
    assert logits is not None
    assert expected is not None
    assert (logits - expected).abs().max() < 1e-5


def test_a_step_that_cannot_be_captured_is_computed_by_the_network_and_reported_once(
    tiny: Qwen2VL, recwarn: pytest.WarningsRecorder
) -> None:
    attempts = []

    def fails(run: Run) -> Run:
        attempts.append(run)
        raise RuntimeError("operation not permitted when stream is capturing")

    prefix = prefix_with(tiny, CapturedDecodeStep(tiny.network, fails))
    snapshot = memory_of(tiny, features_of(tiny), 9).snapshot()
    prefill_all(tiny, prefix, snapshot)
    for question in QUESTIONS[:2]:
        answer, _ = prefix.answer(question, 12)
        assert_equal_answers(tiny.answer(snapshot, question, 12), answer)
        prefix.end_answer()
    assert len(attempts) == 1
    assert [str(warning.message) for warning in recwarn if "not permitted when" in str(warning.message)]


def prefix_with(model: Qwen2VL, step: CapturedDecodeStep) -> TextPrefixCache:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_cache_module, "captured_decode_step", lambda _: step)
        return model.prefix_cache()


def test_answers_with_captured_steps_equal_those_without(model: Qwen2VL) -> None:
    prefix = prefix_with(model, CapturedDecodeStep(model.network, run_directly))
    memory = memory_of(model, features_of(model), 9)
    for slots in (0, 1):
        for index in range(slots):
            memory.insert(slot_of(model, features_of(model), 9 + index))
        snapshot = memory.snapshot()
        prefill_all(model, prefix, snapshot)
        for question in QUESTIONS[:3]:
            answer, _ = prefix.answer(question, 12)
            assert_equal_answers(model.answer(snapshot, question, 12), answer)
            prefix.end_answer()


@pytest.fixture
def damaged(tiny: Qwen2VL) -> TextPrefixCache:
    """A prefilled cache whose unused capacity holds the non-finite states of an earlier question."""
    prefix = prefix_with(tiny, CapturedDecodeStep(tiny.network, run_directly))
    prefill_all(tiny, prefix, memory_of(tiny, features_of(tiny), 9).snapshot())
    with torch.inference_mode():
        for buffer in prefix._cache.buffers:
            buffer[..., -1, :] = torch.nan
    return prefix


def test_non_finite_logits_end_only_their_own_answer(tiny: Qwen2VL, damaged: TextPrefixCache) -> None:
    answer, _ = damaged.answer("Where is it?", 12)
    with pytest.raises(ModelError, match="finite"):
        list(answer)
    damaged.end_answer()
    assert damaged.cached_tokens == 0
    again, cached_tokens = damaged.answer("Where is it?", 12)
    assert cached_tokens == 0
    snapshot = memory_of(tiny, features_of(tiny), 9).snapshot()
    assert_equal_answers(tiny.answer(snapshot, "Where is it?", 12), again)


def test_only_a_language_model_on_one_gpu_with_its_own_kernels_is_captured() -> None:
    def network(
        device: str, kernel: str = "sdpa", layers: Sequence[str] = ("full_attention",), head_on: str = ""
    ) -> Any:
        config = SimpleNamespace(_attn_implementation=kernel, layer_types=layers)
        weight, head = (
            SimpleNamespace(device=torch.device(device)),
            SimpleNamespace(device=torch.device(head_on or device)),
        )
        return SimpleNamespace(
            device=torch.device("cpu"),  # of the vision tower
            get_input_embeddings=lambda: SimpleNamespace(weight=weight),
            model=SimpleNamespace(language_model=SimpleNamespace(parameters=lambda: [weight])),
            lm_head=SimpleNamespace(weight=head),
            config=SimpleNamespace(text_config=config),
        )

    assert captured_decode_step(network("cpu")) is None
    assert captured_decode_step(network("cuda", "eager")) is None
    assert captured_decode_step(network("cuda", head_on="cpu")) is None
    assert captured_decode_step(network("cuda", layers=["sliding_attention"])) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_captured_step_on_a_gpu_is_replayed() -> None:
    model = loaded("tiny-random", "cuda")
    prefix = model.prefix_cache()
    snapshot = memory_of(model, features_of(model), 9).snapshot()
    prefill_all(model, prefix, snapshot)
    for question in QUESTIONS[:3]:
        answer, _ = prefix.answer(question, 12)
        uncached = model.answer(snapshot, question, 12)
        assert isinstance(uncached, GreedyGeneration)
        assert np.array_equal([token.id for token in uncached], [token.id for token in answer])
        assert prefix._step is not None
        assert prefix._step._replay is not None
        prefix.end_answer()
