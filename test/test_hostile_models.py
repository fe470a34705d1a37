"""Model folders that are damaged or hostile: refused with a ModelError in bounded time, and no code of theirs runs."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.prompt import plain_ids
from flash_vstream_ros.models.tiny import save_tiny
from flash_vstream_ros.models.weights.adapter import merge_settings

CONFIG, INDEX, WEIGHTS = "config.json", "model.safetensors.index.json", "model.safetensors"
TEMPLATE = "chat_template.jinja"
NESTED_LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as refused:
        load_model(str(folder), device="cpu")
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert len(sentence) < 1000
    return sentence


def change_config(folder: Path, part: str | None = None, **values: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (config if part is None else config[part]).update(values)
    (folder / CONFIG).write_text(json.dumps(config))


def write_index(folder: Path, weight_map: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def outside(folder: Path) -> str:
    return str(Path(shutil.move(folder / WEIGHTS, folder.parent / "outside.safetensors")))


@pytest.mark.parametrize(
    "name",
    [
        lambda folder: "../outside.safetensors",
        lambda folder: "part/../../outside.safetensors",
        lambda folder: outside(folder),
        lambda folder: "../../../etc/passwd",
        lambda folder: "..\\outside.safetensors",
        lambda folder: 5,
        lambda folder: ["model.safetensors"],
        lambda folder: None,
        lambda folder: "",
    ],
    ids=["parent", "hidden-parent", "absolute", "passwd", "backslash", "number", "list", "null", "empty"],
)
def test_an_index_names_only_files_of_its_folder(folder: Path, name: Callable[[Path], Any]) -> None:
    write_index(folder, {"model.visual.patch_embed.proj.weight": name(folder)})
    sentence = refusal(folder)
    assert INDEX in sentence
    assert "inside its folder" in sentence


def test_shards_of_the_folder_load(folder: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).rename(folder / "model-00001-of-00001.safetensors")
    write_index(folder, dict.fromkeys(weights, "model-00001-of-00001.safetensors"))
    assert load_model(str(folder), device="cpu").tokens is not None


@pytest.mark.parametrize(
    ("part", "values", "named"),
    [
        ("text_config", {"vocab_size": 20_000_000}, "weights"),
        ("text_config", {"num_hidden_layers": 200_000}, CONFIG),
        ("text_config", {"num_hidden_layers": 900}, CONFIG),
        ("text_config", {"hidden_size": -64}, "hidden_size"),
        ("text_config", {"intermediate_size": 10**9}, "weights"),
        ("text_config", {"num_attention_heads": 0}, "num_attention_heads"),
        ("text_config", {"num_key_value_heads": 0}, "num_key_value_heads"),
        ("text_config", {"num_attention_heads": 1.5}, "num_attention_heads"),
        ("text_config", {"vocab_size": "many"}, "vocab_size"),
        ("text_config", {"rope_parameters": "default"}, CONFIG),
        ("text_config", {"hidden_act": ["silu"]}, CONFIG),
        ("vision_config", {"num_heads": 0}, "num_heads"),
        ("vision_config", {"depth": 10**9}, "depth"),
        ("vision_config", {"patch_size": {"a": 1}}, "patch_size"),
        ("vision_config", {"embed_dim": True}, "embed_dim"),
        (None, {"text_config": [1, 2]}, CONFIG),
        (None, {"vision_config": "none"}, CONFIG),
        (None, {"text_config": {"text_config": {"text_config": 1}}}, CONFIG),
    ],
)
def test_impossible_sizes_are_refused_before_anything_is_allocated(
    folder: Path, part: str | None, values: dict[str, Any], named: str
) -> None:
    change_config(folder, part, **values)
    sentence = refusal(folder)
    assert named in sentence, sentence


def test_deeply_nested_json_is_refused(folder: Path) -> None:
    depth = 200_000
    (folder / CONFIG).write_text('{"model_type": "qwen2_vl", "a": ' + "[" * depth + "]" * depth + "}")
    assert CONFIG in refusal(folder)


@pytest.mark.parametrize("kind", [["qwen2_vl"], {"a": 1}, None, 7], ids=str)
def test_a_model_type_of_another_kind_is_refused(folder: Path, kind: Any) -> None:
    change_config(folder, model_type=kind)
    assert "model_type" in refusal(folder)


def test_an_expensive_tokenizer_pattern_is_an_error_without_a_panic() -> None:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(ModelError, match=r"The tokenizer .* failed"):
        plain_ids(tokenizer, "a" * 60 + "b")


def test_a_huge_tokenizer_is_refused_before_it_is_read(folder: Path) -> None:
    with (folder / "tokenizer.json").open("r+b") as file:
        file.truncate(200_000_000)  # sparse
    assert "200000000 bytes" in refusal(folder)


@pytest.mark.parametrize(
    "template",
    [
        NESTED_LOOPS,
        "{% for a in range(99999) %}{{ 'x' }}{% endfor %}" * 200,
        "{{ raise_exception('no') }}",
        "{% for a in %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "x" * 200_000,
    ],
    ids=["loops", "long-loops", "raises", "syntax", "escape", "long"],
)
def test_a_chat_template_that_does_not_end_or_fails_is_refused(folder: Path, template: str) -> None:
    (folder / TEMPLATE).write_text(template)
    assert "chat template" in refusal(folder)


def test_a_chat_template_with_a_short_loop_is_accepted(folder: Path) -> None:
    text = (folder / TEMPLATE).read_text() if (folder / TEMPLATE).is_file() else ""
    (folder / TEMPLATE).write_text("{% for a in range(1000) %}{% endfor %}" + text)
    load_model(str(folder), device="cpu")


def test_code_in_a_model_folder_never_runs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
    file = folder / "tokenizer_config.json"
    automatic = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    file.write_text(json.dumps({**json.loads(file.read_text()), "auto_map": automatic, "tokenizer_class": "Evil"}))
    change_config(folder, auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"})
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with suppress(ModelError):
        load_model(str(folder), device="cpu")
    assert not mark.exists()


class _Runs:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("indexed", [False, True])
def test_a_pickle_is_not_unpickled(folder: Path, tmp_path: Path, indexed: bool) -> None:
    mark = tmp_path / "ran"
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": _Runs(mark)}))
    if indexed:
        write_index(folder, {"a": "pytorch_model.bin"})
    refusal(folder)
    assert not mark.exists()


def adapter(folder: Path, base: Path, **values: Any) -> Path:
    pytest.importorskip("peft")
    folder.mkdir()
    name = "base_model.model.model.language_model.layers.0.self_attn.q_proj"
    weights = {f"{name}.lora_A.weight": torch.ones(2, 64), f"{name}.lora_B.weight": torch.ones(64, 2)}
    save_file(weights, folder / "adapter_model.safetensors")
    own = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 2, "target_modules": "(.*.*.*.*.*)*x"}
    (folder / "adapter_config.json").write_text(json.dumps({**own, **values}))
    return folder


def query(model: Any) -> torch.Tensor:
    return model.network.model.language_model.layers[0].self_attn.q_proj.weight


def test_an_expensive_module_pattern_is_not_evaluated(saved: Path, tmp_path: Path) -> None:
    """Which modules are adapted follows from the weights, so that the adapter loads."""
    plain = load_model(str(saved), device="cpu")
    model = load_model(str(adapter(tmp_path / "adapter", saved, lora_alpha=4)), device="cpu")
    assert torch.allclose(query(model), query(plain) + 4 / 2 * 2)


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": ["q_proj"], "exclude_modules": "(.*.*.*.*.*)*x"},
        {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "(.*.*.*.*)*x"},
    ],
)
def test_patterns_that_choose_among_modules_are_not_evaluated(
    saved: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    plain = load_model(str(saved), device="cpu")
    model = load_model(str(adapter(tmp_path / "adapter", saved, lora_alpha=2, **values)), device="cpu")
    assert torch.allclose(query(model), query(plain) + 2)


@pytest.mark.parametrize(
    "values",
    [
        {"rank_pattern": {"(.*.*.*.*.*)*x": 2}},
        {"alpha_pattern": {"(a+)+b": 2}},
        {"modules_to_save": ["(.*.*.*.*.*)*x"]},
        {"r": 10**9},
        {"r": 0},
        {"rank_pattern": {"q_proj": 10**9}},
        {"use_qalora": True},
        {"megatron_config": {"x": 1}, "megatron_core": "evil"},
        {"layer_replication": [[0, 10**9]]},
    ],
    ids=str,
)
def test_expensive_or_unknown_adapter_settings_are_refused(saved: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    assert "adapter_config.json" in refusal(adapter(tmp_path / "adapter", saved, **values))


def test_a_pattern_of_plain_names_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"target_modules": ["q_proj"], "r": 2, "alpha_pattern": {"layers.0.q_proj": 8}}))
    found = merge_settings(file, {"a.lora_A.weight": torch.ones(2, 4)})
    assert found == {"target_modules": ["q_proj"], "r": 2, "alpha_pattern": {"layers.0.q_proj": 8}}


@pytest.mark.parametrize("target", ["file", "folder", "named"])
def test_gguf_is_refused_with_what_is_supported(tmp_path: Path, target: str) -> None:
    place = tmp_path / ("Qwen2.5-VL-7B-Instruct-GGUF" if target == "named" else "model")
    place.mkdir()
    file = place / "Qwen2.5-VL-7B-Instruct-Q4_K_M.gguf"
    if target != "named":
        file.write_bytes(bytes(200))
    sentence = refusal(file if target == "file" else place)
    assert re.search("GGUF.*not supported.*safetensors.*quantization", sentence)


TRUNCATED = """
import os, sys, numpy as np
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.prompt import plain_ids
model = load_model(sys.argv[1], device="cpu", dtype="float32")
maps = open("/proc/self/maps").read() if os.path.exists("/proc/self/maps") else ""
assert os.path.join(sys.argv[1], "model.safetensors") not in maps, "the weights are mapped"
with open(os.path.join(sys.argv[1], "model.safetensors"), "r+b") as file:
    file.truncate(5000)
frames = [np.zeros((120, 160, 3), np.uint8)] * 2
low, detail = model.encode(frames, model.grid(120, 160))
print(bool(low.isfinite().all() & detail.isfinite().all()))
"""


def test_a_weight_file_may_be_truncated_once_it_is_loaded(folder: Path) -> None:
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", TRUNCATED, str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert result.returncode == 0, f"status {result.returncode}: {result.stderr[-500:]}"
    assert result.stdout.strip() == "True"
