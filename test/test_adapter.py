"""LoRA adapters in peft's layout: merged on loading, from folders as training leaves them, or refused by name."""

from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path

import pytest
import torch
from hub_models import FAMILIES, old_name, save_hub_model
from safetensors.torch import load_file, save_file

from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.load import load_model

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TARGETS = ["q_proj", "v_proj", "down_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_hub_model(tmp_path_factory.mktemp("base"), "qwen2_vl")


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """An adapter as peft saves it, with weights that are not zero."""
    peft = pytest.importorskip("peft")
    network = FAMILIES["qwen2_vl"].network.from_pretrained(base, dtype=torch.float32)
    wrapped = peft.get_peft_model(network, peft.LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS))
    torch.manual_seed(7)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("adapter")
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "adapter"))


def change_config(folder: Path, **values) -> None:
    file = folder / CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


def projection(network, layer: int = 1) -> torch.Tensor:
    return network.model.language_model.layers[layer].self_attn.v_proj.weight


def test_the_adapter_is_added_to_the_weights_of_its_base(adapter, base):
    weights = load_file(adapter / WEIGHTS)
    a, b = (
        weights[f"base_model.model.model.language_model.layers.1.self_attn.v_proj.lora_{part}.weight"] for part in "AB"
    )
    plain, adapted = (load_model(str(folder), device="cpu").network for folder in (base, adapter))
    assert torch.allclose(projection(adapted), projection(plain) + 8 / 4 * b @ a, atol=1e-6)
    assert not torch.allclose(projection(adapted), projection(plain), atol=1e-3)
    assert {name for name, _ in adapted.named_parameters()} == {name for name, _ in plain.named_parameters()}


def test_weight_names_from_before_transformers_4_52_load_the_same_weights(adapter):
    expected = projection(load_model(str(adapter), device="cpu").network)

    def rename(weights):
        for name in list(weights):
            own = name.removeprefix("base_model.model.")
            weights["base_model.model." + old_name(own)] = weights.pop(name)

    change_weights(adapter, rename)
    assert all("language_model" not in name for name in load_file(adapter / WEIGHTS))
    assert torch.equal(projection(load_model(str(adapter), device="cpu").network), expected)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / WEIGHTS).unlink(), (WEIGHTS, "does not exist")),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-99]), (WEIGHTS, "cut short")),
        (lambda f: (f / WEIGHTS).rename(f / "adapter_model.bin"), ("pickle", WEIGHTS)),
        (lambda f: (f / CONFIG).write_text("{"), (CONFIG, "JSON")),
        (lambda f: change_config(f, peft_type="IA3"), (CONFIG, "IA3", "LORA")),
        (lambda f: change_config(f, base_model_name_or_path=None), (CONFIG, "base_model_name_or_path")),
        (lambda f: change_config(f, base_model_name_or_path="/no/base"), ("/no/base", CONFIG, "adapter over")),
        (lambda f: change_config(f, target_modules=["nothing"]), (CONFIG, "nothing")),
        (lambda f: change_config(f, r=5), ("other shapes", "lora_A")),
        (lambda f: change_config(f, target_modules=["q_proj", "v_proj"]), ("unknown", "down_proj")),
        (lambda f: change_weights(f, lambda w: w.pop(sorted(w)[0])), ("lack", "lora_A")),
        (lambda f: change_weights(f, lambda w: w.update(extra=torch.zeros(1))), ("unknown", "extra")),
    ],
)
def test_the_error_for_a_damaged_adapter_names_the_defect(adapter, damage, words):
    damage(adapter)
    with pytest.raises(ModelError) as error:
        load_model(str(adapter), device="cpu")
    sentence = str(error.value)
    assert str(adapter) in sentence
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence


def test_an_adapter_is_not_merged_into_quantised_weights(adapter):
    with pytest.raises(ModelError, match="quantization none"):
        load_model(str(adapter), device="cpu", quantization="4bit")


def test_without_peft_the_error_says_how_to_install_it(base, tmp_path, monkeypatch):
    (tmp_path / CONFIG).write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(base)}))
    actual = builtins.__import__

    def without_peft(name, *args, **kwargs):
        if name.partition(".")[0] == "peft":
            raise ImportError("No module named 'peft'")
        return actual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(ModelError, match="pip install peft"):
        load_model(str(tmp_path), device="cpu")
