"""load_model: folders, devices and kernels; every failure is one sentence that says what to do."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from flash_vstream_ros.models.confidence import CONFIDENCE_KEY, DECLINES_KEY, Calibration
from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.load import choose_attention, choose_dtype, load_model
from flash_vstream_ros.models.model_kind import ModelKind
from flash_vstream_ros.models.tiny import save_tiny

CPU = torch.device("cpu")
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def transformers_log():
    """The log lines of transformers that would reach the node's log."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def change_config(folder: Path, **values) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def encoded(model) -> tuple[torch.Tensor, torch.Tensor]:
    frames = list(np.random.default_rng(0).integers(0, 256, (2, 120, 160, 3), dtype=np.uint8))
    return model.encode(frames, model.grid(120, 160))


def test_a_saved_folder_loads_to_the_same_model(folder):
    made, loaded = load_model("tiny-random", device="cpu"), load_model(str(folder), device="cpu")
    assert (made.name, made.kind) == ("tiny-random", ModelKind.UNTRAINED)
    assert (loaded.name, loaded.kind) == (str(folder), ModelKind.TRAINED)
    for a, b in zip(encoded(made), encoded(loaded), strict=True):
        assert torch.equal(a, b)
    assert loaded._prompt.after("où?") == made._prompt.after("où?")
    assert torch.equal(loaded._vocabulary.suppressed, made._vocabulary.suppressed)
    assert loaded._vocabulary.stops == made._vocabulary.stops


def test_the_calibration_of_a_folder_is_that_of_its_config(folder):
    assert load_model(str(folder), device="cpu").calibration == Calibration()
    change_config(folder, **{CONFIDENCE_KEY: [-1.0, 0.25, 0.5], DECLINES_KEY: "No idea."})
    loaded = load_model(str(folder), device="cpu").calibration
    assert loaded == Calibration((-1.0, 0.25, 0.5), "No idea.")
    assert loaded.fitted


def test_the_released_flash_vstream_layout_loads(folder):
    def rename(weights):
        for name in list(weights):
            short = name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")
            weights[short] = weights.pop(name)

    expected = encoded(load_model(str(folder), device="cpu"))
    change_weights(folder, rename)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    text |= {"rope_theta": rope["rope_theta"], "model_type": "flash_vstream_qwen2_vl"}
    text["rope_scaling"] = {"type": "default", "rope_type": "default", "mrope_section": rope["mrope_section"]}
    config["vision_config"]["flash_memory_config"] = {"flash_memory_temporal_length": 120}
    file.write_text(json.dumps({**config, **text}))
    model = load_model(str(folder), device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(encoded(model), expected, strict=True))
    assert model.network.config.text_config.rope_parameters["mrope_section"] == rope["mrope_section"]


def test_the_tiny_model_does_not_depend_on_the_random_state():
    torch.manual_seed(1)
    first = load_model("tiny-random", device="cpu")
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = load_model("tiny-random", device="cpu")
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(encoded(first), encoded(second), strict=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes_can_be_chosen_and_rotary_frequencies_stay_exact(folder, dtype):
    for name in ("tiny-random", str(folder)):
        model = load_model(name, device="cpu", dtype=dtype)
        assert model.dtype == getattr(torch, dtype)
        assert {features.dtype for features in encoded(model)} == {model.dtype}
        assert model.network.model.language_model.rotary_emb.inv_freq.dtype == torch.float32


def test_the_attention_kernel_and_its_reason_are_attributes():
    model = load_model("tiny-random", device="cpu")
    assert model.attention_kernel == "sdpa (flash-attn needs a CUDA device, this is cpu)"
    assert load_model("tiny-random", device="cpu", attention="eager").attention_kernel.startswith("eager")
    assert "float16 or bfloat16" in choose_attention("auto", torch.device("cuda"), torch.float32).reason
    assert choose_dtype("auto", CPU) == torch.float32


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dtype": "int7"}, ("int7", "bfloat16")),
        ({"device": "gpu"}, ("gpu", "cuda")),
        ({"attention": "magic"}, ("magic", "sdpa")),
        ({"attention": "flash_attention_2", "device": "cpu"}, ("CUDA", "sdpa")),
        ({"max_pixels": 100}, ("max_pixels", "3136")),
    ],
)
def test_the_error_for_a_wrong_setting_lists_the_choices(arguments, words):
    with pytest.raises(ModelError) as error:
        load_model("tiny-random", **arguments)
    assert all(word in str(error.value) for word in words)


def test_the_error_for_a_missing_gpu_lists_the_devices_of_torch():
    index = torch.cuda.device_count()
    with pytest.raises(ModelError, match=f"sees {index} CUDA devices.*auto or cpu"):
        load_model("tiny-random", device=f"cuda:{index}")


def remove(name):
    return lambda folder: (folder / name).unlink()


def cut(folder):
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:-1000])


def pointer(folder):
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")


def missing_shard(folder):
    (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))


def no_tokenizer(folder):
    for file in [*folder.glob("tokenizer*"), *folder.glob("vocab*")]:
        file.unlink()


def weight(change):
    return lambda folder: change_weights(folder, change)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove("config.json"), ("no config.json",)),
        (lambda folder: (folder / "config.json").write_text("{"), ("config.json", "JSON")),
        (lambda folder: change_config(folder, model_type="llama"), ("llama", "qwen2_vl")),
        (lambda folder: change_config(folder, vision_config={"depth": "many"}), ("config.json", "depth")),
        (remove(WEIGHTS), (WEIGHTS, "does not exist")),
        (cut, (WEIGHTS, "cut short")),
        (pointer, (WEIGHTS, "damaged")),
        (missing_shard, ("model-00002-of-00002.safetensors", "does not exist")),
        (weight(lambda w: w.pop("lm_head.weight")), ("lack", "lm_head.weight")),
        (weight(lambda w: w.update(extra=torch.zeros(1))), ("unknown", "extra")),
        (
            weight(lambda w: w.update({"lm_head.weight": torch.zeros(9, 64)})),
            ("lm_head.weight", "(9, 64)", "(270, 64)"),
        ),
        (no_tokenizer, ("no tokenizer", "tokenizer.json")),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), ("tokenizer", "cannot be read")),
    ],
)
def test_the_error_for_a_damaged_folder_names_the_defect(folder, damage, words, transformers_log):
    damage(folder)
    with pytest.raises(ModelError) as error:
        load_model(str(folder), device="cpu")
    sentence = str(error.value)
    assert str(folder) in sentence
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence
    assert transformers_log == []


def test_the_error_for_a_missing_folder_has_its_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("./models/qwen", "qwen", str(tmp_path / "a" / "b"), ""):
        with pytest.raises(ModelError, match=r"There is no model folder|is no model folder") as error:
            load_model(name, device="cpu")
        assert str((tmp_path / name).absolute()) in str(error.value)


def test_without_the_hub_the_error_names_the_cache_and_the_download_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError) as error:
        load_model("nobody/no-such-model", device="cpu")
    sentence = str(error.value)
    for words in ("HF_HUB_OFFLINE", constants.HF_HUB_CACHE, "hf download nobody/no-such-model", str(tmp_path)):
        assert words in sentence
