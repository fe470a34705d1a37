"""LoRA adapters in peft's layout, merged into the network that they were trained over (arXiv 2106.09685)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.names import ADAPTER_CONFIG

from .folder import read_json

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # peft's, before the network's own names


def base_name(folder: Path) -> str:
    """Folder or hub id of the model that the adapter was trained over; ModelError."""
    file = folder / ADAPTER_CONFIG
    values = read_json(file)
    name, kind = values.get("base_model_name_or_path"), values.get("peft_type")
    if kind != "LORA":
        raise ModelError(f"{file}: peft_type is {kind!r}, but only LORA can be merged.")
    if not isinstance(name, str) or not name:
        raise ModelError(f"{file} does not say over which model it was trained: set base_model_name_or_path.")
    return name


def merged(network: Any, folder: Path) -> Any:
    """The network with the adapter of `folder` added to its weights; ModelError."""
    try:
        from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
    except ImportError as error:
        raise ModelError(
            f"{folder} is a LoRA adapter, and peft cannot be imported ({error}): pip install peft"
        ) from error
    from .checkpoint import complain_of, first_line, read_weights

    weights = {_present_name(name): tensor for name, tensor in read_weights(_weights_file(folder)).items()}
    try:
        wrapped = PeftModel(network, LoraConfig.from_pretrained(str(folder)))
    except Exception as error:
        raise ModelError(f"{folder / ADAPTER_CONFIG} does not fit its base model: {first_line(error)}") from error
    expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    complain_of(
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


def _weights_file(folder: Path) -> Path:
    file = folder / WEIGHTS
    if file.is_file():
        return file
    if (folder / "adapter_model.bin").is_file():
        raise ModelError(
            f"{folder} has its adapter as adapter_model.bin, a pickle, which can run code: convert it to {WEIGHTS}."
        )
    raise ModelError(f"The adapter is incomplete: {file} does not exist. Download it again.")


def _present_name(name: str) -> str:
    """The name of a weight since transformers 4.52, which adapters of Qwen2-VL and Qwen2.5-VL may precede."""
    own = name.removeprefix(PREFIX)
    own = re.sub(r"^visual\.", "model.visual.", own)
    return PREFIX + re.sub(r"^model\.(?!language_model\.|visual\.)", "model.language_model.", own)
