"""Folders of every family in the hub's layout: loaded as they are, and refused by the name of what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hub_models import FAMILIES, SHARDS, save_hub_model, save_sharded, weights_of
from safetensors.torch import load_file

from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.names import MODEL_TYPES

SHARD = f"model-00002-of-{SHARDS:05d}.safetensors"
TITLES = {"qwen2_vl": "Qwen2-VL", "qwen2_5_vl": "Qwen2.5-VL", "qwen3_vl": "Qwen3-VL"}


@pytest.fixture(scope="module", params=FAMILIES)
def model_type(request):
    return request.param


@pytest.fixture(scope="module")
def saved(model_type, tmp_path_factory):
    return save_hub_model(tmp_path_factory.mktemp("saved"), model_type)


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "model"))


def norm_name(model_type: str) -> str:
    """Name of a weight of the language model on the hub."""
    prefix = "model.language_model" if FAMILIES[model_type].nested else "model"
    return f"{prefix}.layers.0.input_layernorm.weight"


def change(folder: Path, model_type: str, edit) -> None:
    weights = weights_of(model_type)
    edit(weights)
    save_sharded(folder, weights)


def test_all_weights_of_the_shards_are_in_the_network(folder, model_type):
    network = load_model(str(folder), device="cpu").network
    stored = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    loaded = network.state_dict()
    found = {name: loaded.get(name) for name in stored} if FAMILIES[model_type].nested else None
    assert all(torch.equal(found[name], stored[name]) for name in stored) if found else len(stored) == len(loaded)
    assert torch.equal(network.model.language_model.layers[0].input_layernorm.weight, stored[norm_name(model_type)])


def test_the_error_for_missing_unknown_or_misshapen_weights_names_them(folder, model_type):
    name = norm_name(model_type)
    for edit, words in (
        (lambda w: w.pop(name), ("lack", "layers.0.input_layernorm.weight")),
        (lambda w: w.update({name + "_extra": torch.zeros(1)}), ("unknown to " + TITLES[model_type], "_extra")),
        (lambda w: w.update({name: torch.zeros(9)}), ("other shapes", "(9,)", "(64,)")),
    ):
        change(folder, model_type, edit)
        with pytest.raises(ModelError) as error:
            load_model(str(folder), device="cpu")
        assert all(word in str(error.value) for word in (*words, str(folder))), str(error.value)


def test_the_error_for_a_missing_or_truncated_shard_names_it(folder):
    file = folder / SHARD
    content = file.read_bytes()
    for damage, words in (
        (
            lambda: file.write_bytes(content[: len(content) // 2]),
            f"({len(content) // 2} bytes) is damaged or cut short",
        ),
        (lambda: file.write_bytes(b""), "(0 bytes) is damaged or cut short"),
        (file.unlink, "does not exist"),
    ):
        damage()
        with pytest.raises(ModelError) as error:
            load_model(str(folder), device="cpu")
        assert str(file) in str(error.value)
        assert words in str(error.value)


def test_the_error_for_a_folder_of_another_family_or_config_names_it(folder, model_type):
    file = folder / "config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "model_type": "qwen9_vl"}))
    with pytest.raises(ModelError) as error:
        load_model(str(folder), device="cpu")
    assert all(word in str(error.value) for word in ("qwen9_vl", str(file), *MODEL_TYPES))
    file.write_text(json.dumps({**values, "vision_config": {"depth": "many"}}))
    with pytest.raises(ModelError, match=f"does not describe a {TITLES[model_type]}"):
        load_model(str(folder), device="cpu")


def test_the_error_for_a_missing_tokenizer_says_where_to_get_it(folder):
    for file in [*folder.glob("tokenizer*"), *folder.glob("vocab*")]:
        file.unlink()
    with pytest.raises(ModelError, match=r"no tokenizer.*Copy them from Qwen/Qwen"):
        load_model(str(folder), device="cpu")


def test_a_chat_template_file_next_to_the_tokenizer_is_used(folder):
    (folder / "chat_template.jinja").unlink()
    template = "{% for message in messages %}{{ message.role }}:<|video_pad|>{{ message.content[1].text }}.{% endfor %}"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    prompt = load_model(str(folder), device="cpu", instruction="")._prompt
    assert prompt.tokenizer.decode([*prompt.before, *prompt.after("why?")]) == "user:why?."


def test_every_family_is_among_the_supported_model_types():
    assert {*FAMILIES, "flash_vstream_qwen2_vl"} <= set(MODEL_TYPES)
