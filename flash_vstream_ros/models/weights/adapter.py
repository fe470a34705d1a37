"""LoRA adapters in peft's layout, merged into the network that they were trained on (arXiv 2106.09685)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.names import ADAPTER_CONFIG

from .folder import read_json
from .load_errors import check_weight_names, first_line
from .weight_files import read_weights

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # peft's prefix of the network's own names
# The settings that affect the merged weights. Others only matter in training, or make peft import modules.
MERGE_SETTINGS = (
    "r",
    "lora_alpha",
    "target_modules",
    "fan_in_fan_out",
    "bias",
    "use_rslora",
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
)
PATTERN_SETTINGS = ("exclude_modules", "layers_to_transform", "layers_pattern")  # restrict target_modules
UNSUPPORTED_SETTINGS = ("use_qalora", "layer_replication", "target_parameters", "megatron_config")
MAX_PATTERN_LENGTH = 300
RANK_FACTOR = 8  # ranks of the configuration may exceed those of the weights by this factor


def base_name(folder: Path) -> str:
    """Folder or hub id of the model that the adapter was trained on. Raises ModelError."""
    file = folder / ADAPTER_CONFIG
    values = read_json(file)
    name, kind = values.get("base_model_name_or_path"), values.get("peft_type")
    if kind != "LORA":
        raise ModelError(f"{file}: peft_type is {kind!r}, but only LORA can be merged.")
    if not isinstance(name, str) or not name:
        raise ModelError(f"{file} does not name the model that it was trained on: set base_model_name_or_path.")
    return name


def merged(network: Any, folder: Path) -> Any:
    """Merge the adapter in `folder` into the weights of `network`. Returns the network. Raises ModelError."""
    try:
        from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
    except ImportError as error:
        raise ModelError(
            f"{folder} is a LoRA adapter, and peft cannot be imported ({error}): pip install peft"
        ) from error
    weights = {_current_name(name): tensor for name, tensor in read_weights(_weights_file(folder)).items()}
    settings = merge_settings(folder / ADAPTER_CONFIG, weights)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft uses old names of transformers
            wrapped = PeftModel(network, LoraConfig(**settings))
    except Exception as error:
        raise ModelError(f"{folder / ADAPTER_CONFIG} does not fit its base model: {first_line(error)}") from error
    expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    check_weight_names(
        f"The weights of the adapter in {folder}",
        "its adapter_config.json",
        missing=expected.keys() - weights.keys(),
        unknown=weights.keys() - expected.keys(),
        misshapen=[
            (name, weights[name].shape, expected[name].shape)
            for name in expected.keys() & weights.keys()
            if weights[name].shape != expected[name].shape
        ],
    )
    set_peft_model_state_dict(wrapped, weights)
    return wrapped.merge_and_unload()


def merge_settings(file: Path, weights: dict[str, Tensor]) -> dict[str, Any]:
    """Arguments of LoraConfig from an adapter_config.json, without expensive patterns. Raises ModelError.

    peft matches patterns of this file with every module in Python's `re`, where a few characters can take forever. So
    if the file has patterns, the names of the adapted modules are read from the weights instead.
    """
    values = read_json(file)
    for name in UNSUPPORTED_SETTINGS:
        if values.get(name):
            raise ModelError(
                f"{file}: {name} is set, which is not supported here: merge the adapter into its base with peft."
            )
    settings = {name: values[name] for name in MERGE_SETTINGS if values.get(name) is not None}
    if isinstance(settings.get("target_modules"), str) or any(values.get(name) for name in PATTERN_SETTINGS):
        settings["target_modules"] = sorted(adapted_modules(weights))
    for pattern in _patterns(settings):
        if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN_LENGTH or _quantifiers(pattern) > 1:
            raise ModelError(
                f"{file} has the module pattern {str(pattern)[:100]!r}, which may be expensive to match: "
                "write the names of the modules instead."
            )
    ranks = [settings.get("r", 8), *dict(settings.get("rank_pattern", {})).values()]
    largest = max((len(tensor) for name, tensor in weights.items() if ".lora_A." in name), default=1)
    # A rank slightly too large is reported later, with the shapes of the weights; a huge one would allocate too much.
    if any(not isinstance(rank, int) or not 1 <= rank <= RANK_FACTOR * largest for rank in ranks):
        raise ModelError(
            f"{file}: one of the ranks {str(ranks)[:100]} does not fit its weights, whose rank is {largest} at most."
        )
    return settings


def adapted_modules(weights: Collection[str]) -> set[str]:
    """Names of the modules that an adapter has weights for."""
    return {name.removeprefix(PREFIX).split(".lora_")[0] for name in weights if ".lora_" in name}


def _patterns(settings: dict[str, Any]) -> Iterator[Any]:
    """The strings that peft evaluates as regular expressions."""
    for name in ("rank_pattern", "alpha_pattern", "modules_to_save"):
        yield from settings.get(name, ())


def _quantifiers(pattern: str) -> int:
    return sum(pattern.count(character) for character in "*+{")


def _weights_file(folder: Path) -> Path:
    file = folder / WEIGHTS
    if file.is_file():
        return file
    if (folder / "adapter_model.bin").is_file():
        raise ModelError(
            f"{folder} has its adapter as adapter_model.bin, a pickle, which can run code: convert it to {WEIGHTS}."
        )
    raise ModelError(f"The adapter is incomplete: {file} does not exist. Download it again.")


def _current_name(name: str) -> str:
    """The name of a weight since transformers 4.52; adapters of Qwen2-VL and Qwen2.5-VL may use older names."""
    own = name.removeprefix(PREFIX)
    own = re.sub(r"^visual\.", "model.visual.", own)
    return PREFIX + re.sub(r"^model\.(?!language_model\.|visual\.)", "model.language_model.", own)
