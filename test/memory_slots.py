"""Slots of random images for a model, memories of them, and the comparison of two answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.slot import MemorySnapshot, Slot
from flash_vstream_ros.models.decoding.greedy import GreedyGeneration
from flash_vstream_ros.models.decoding.prefix_cache import TextPrefixCache
from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.qwen2_vl import Qwen2VL

SECOND = 1_000_000_000
SIDE = 112
QUESTIONS = ["Where is it?", "\n\nWho?", "", "où est la clé ? 钥匙在哪里？ 🔑", "x" * 700, "<|im_end|>\n<|video_pad|>"]


def loaded(name: str) -> Qwen2VL:
    """A model in float32 with small images; skips the test if it fails to load."""
    try:
        model = load_model(name, device="cpu", dtype="float32", max_pixels=SIDE * SIDE)
    except ModelError as error:
        pytest.skip(str(error))
    assert isinstance(model, Qwen2VL)
    return model


@pytest.fixture(scope="module")
def tiny() -> Qwen2VL:
    return loaded("tiny-random")


def features_of(model: Qwen2VL, count: int = 6) -> list[tuple[Tensor, Tensor]]:
    draw = np.random.default_rng(5)
    return [
        model.encode(list(draw.integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)), model.grid(SIDE, SIDE))
        for _ in range(count)
    ]


def slot_of(model: Qwen2VL, features: list[tuple[Tensor, Tensor]], index: int, camera: str = "camera") -> Slot:
    low, detail = features[index % len(features)]
    at = 2 * (index + 1) * SECOND
    # A repeated view differs a little in every feature, so that clusters are realistic.
    low = low + 0.01 * (index // len(features))
    return Slot(camera, "", at - SECOND, at, low, detail, model.grid(SIDE, SIDE))


def memory_of(model: Qwen2VL, features: list[tuple[Tensor, Tensor]], slots: int) -> FlashMemory:
    memory = FlashMemory(FlashMemoryConfig(csm_slots=5, dam_slots=3, horizon_slots=8))
    for index in range(slots):
        memory.insert(slot_of(model, features, index))
    return memory


def first_logits(answer: GreedyGeneration) -> Tensor:
    with torch.inference_mode():
        answer._logits = answer._next_logits()
    return answer._logits


def assert_equal_answers(uncached: GreedyGeneration, cached: GreedyGeneration) -> None:
    """Next-token logits to 1e-4, the same tokens at the same probabilities, and the same attention on the memory."""
    assert (first_logits(uncached) - first_logits(cached)).abs().max() < 1e-4
    tokens, again = list(uncached), list(cached)
    assert [token.id for token in tokens] == [token.id for token in again]
    assert [token.text for token in tokens] == [token.text for token in again]
    assert [token.probability for token in tokens] == pytest.approx([t.probability for t in again], abs=1e-5)
    if tokens:
        assert sum(uncached.attention) > 0
        assert list(cached.attention) == pytest.approx(list(uncached.attention), abs=1e-5)


def prefill_all(model: Qwen2VL, prefix: TextPrefixCache, snapshot: MemorySnapshot, chunk: int = 70) -> int:
    """Set the snapshot and prefill it completely. Returns the number of chunks."""
    prefix.set_snapshot(snapshot)
    chunks = 0
    while prefix.remaining_tokens:
        prefix.prefill(chunk)
        chunks += 1
    assert prefix.ready
    return chunks
