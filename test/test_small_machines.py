"""Quantised weights, and a vision tower on a device of its own."""

from __future__ import annotations

import builtins
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from hub_models import FAMILIES, save_hub_model

from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.slot import Slot
from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.load import choose_attention, load_model

QUANTISED = {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}
ERRORS = {"8bit": 0.03, "4bit": 0.15}  # relative, of one layer


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save_hub_model(tmp_path_factory.mktemp(request.param), request.param)


def answer_of(model) -> list[int]:
    """The answer to a question on three random slots."""
    memory, grid = FlashMemory(), model.grid(120, 160)
    for index in range(3):
        frames = list(np.random.default_rng(index).integers(0, 256, (2, 120, 160, 3), dtype=np.uint8))
        memory.insert(Slot("camera", "", 2 * index, 2 * index + 1, *model.encode(frames, grid), grid))
    return [token.id for token in model.answer(memory.snapshot(), "What is there?", 6)]


@pytest.mark.parametrize("kind", QUANTISED)
def test_the_language_model_is_quantised_and_the_tower_is_not(folder, kind):
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("accelerate")
    whole, small = (load_model(str(folder), device="cpu", quantization=each) for each in ("none", kind))
    layer, blocks = small.network.model.language_model.layers[0], small.network.model.visual.blocks
    for part in (layer.mlp.down_proj, layer.self_attn.q_proj):
        assert type(part).__name__ == QUANTISED[kind]
        assert part.weight.element_size() == 1
    assert type(small.network.lm_head) is torch.nn.Linear
    assert not [m for m in blocks.modules() if type(m).__name__ in QUANTISED.values()]
    assert len(answer_of(small)) == 6
    inputs = torch.randn(32, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact, rough = (model.network.model.language_model.layers[0].mlp.down_proj(inputs) for model in (whole, small))
    assert 0 < (exact - rough).norm() / exact.norm() < ERRORS[kind]


def test_without_bitsandbytes_the_error_says_how_to_install_it(folder, monkeypatch):
    actual = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "bitsandbytes":
            raise ImportError("No module named 'bitsandbytes'")
        return actual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError, match="pip install bitsandbytes accelerate"):
        load_model(str(folder), device="cpu", quantization="4bit")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"quantization": "3bit"}, ("3bit", "4bit")),
        ({"positions": "somewhere"}, ("somewhere", "am_rope")),
        ({"vision_device": "gpu"}, ("gpu", "cuda")),
        ({"quantization": "8bit"}, ("tiny-random", "quantization none")),
    ],
)
def test_the_error_for_a_wrong_setting_lists_the_choices(arguments, words):
    with pytest.raises(ModelError) as error:
        load_model("tiny-random", device="cpu", **arguments)
    assert all(word in str(error.value) for word in words)


def test_the_error_for_a_missing_vision_device_names_it():
    index = torch.cuda.device_count()
    with pytest.raises(ModelError, match=f"'cuda:{index}' is not available"):
        load_model("tiny-random", device="cpu", vision_device=f"cuda:{index}")


def test_flash_attention_is_left_out_where_the_tower_cannot_run_it():
    choice = choose_attention("auto", torch.device("cuda"), torch.bfloat16, torch.device("cpu"))
    assert choice.kernel == "sdpa"


def test_flash_attention_that_does_not_import_is_left_out_with_the_reason(monkeypatch):
    broken = ModuleType("transformers.utils")
    broken.is_flash_attn_2_available = lambda: True
    monkeypatch.setitem(sys.modules, "transformers.utils", broken)
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    choice = choose_attention("auto", torch.device("cuda"), torch.bfloat16)
    assert choice.kernel == "sdpa"
    assert "flash-attn does not import: " in choice.reason
    with pytest.raises(ModelError, match="flash-attn does not import"):
        choose_attention("flash_attention_2", torch.device("cuda"), torch.bfloat16)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_tower_and_memory_can_be_on_another_device_than_the_language_model(folder):
    whole = load_model(str(folder), device="cuda", dtype="float32")
    split = load_model(str(folder), device="cuda", dtype="float32", vision_device="cpu")
    low, detail = split.encode([np.zeros((120, 160, 3), np.uint8)] * 2, split.grid(120, 160))
    assert {low.device.type, detail.device.type} == {"cpu"}
    assert split.device.type == "cuda"
    assert answer_of(split) == answer_of(whole)
