"""Loads networks and tokenizers from model folders in the hub's layout, and checks them first.

If a checkpoint lacks weights, transformers fills them with random numbers and only warns; here this is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoTokenizer, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from flash_vstream_ros.models.confidence import CONFIDENCE_KEY
from flash_vstream_ros.models.evidence_heads import HEADS_KEY
from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.panics import panics_as_model_errors
from flash_vstream_ros.models.prompt import TURN_END, VISION_END, VISION_START, ChatPrompt

from .adapter import merged
from .config_checks import check_counts, check_network_size
from .folder import check_size, read_json
from .load_errors import check_weight_names, first_line, name_list, quiet_transformers
from .quantised import quantisation_config
from .weight_files import check_files, unmap_weights, weight_files

MAX_TOKENIZER_BYTES = 128_000_000  # the largest published tokenizer.json has 35 MB


class Architecture(NamedTuple):
    """Classes of transformers for one model family."""

    title: str
    config: Any
    network: Any
    published: str  # hub id of an example


QWEN2_VL = Architecture("Qwen2-VL", Qwen2VLConfig, Qwen2VLForConditionalGeneration, "Qwen/Qwen2-VL-7B-Instruct")


def read_config(folder: Path, architecture: Architecture = QWEN2_VL) -> Any:
    """The folder's configuration. Raises ModelError if it does not describe a model of this architecture."""
    file = folder / "config.json"
    values = {**read_json(file), "model_type": architecture.config.model_type}
    try:
        config = architecture.config.from_dict(values)
    except Exception as error:
        raise ModelError(f"{file} does not describe a {architecture.title}: {first_line(error)}") from error
    check_counts(config, file)
    return config


def load_network(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    attention: str,
    architecture: Architecture = QWEN2_VL,
    *,
    vision_device: torch.device | None = None,
    quantization: str = "none",
    adapter: Path | None = None,
) -> Any:
    """Load the folder's network with all weights. Raises ModelError if one is missing, unknown or misshapen.

    The vision tower goes to `vision_device` if given. `adapter` is the folder of a LoRA adapter to merge.
    """
    config = read_config(folder, architecture)
    check_network_size(architecture.network, config, folder, check_files(folder))
    options: dict[str, Any] = {"use_safetensors": True}
    if quantization != "none":
        options["quantization_config"] = quantisation_config(quantization, dtype)
        options["device_map"] = {"": str(device)}
    network, report = _from_pretrained(architecture.network, folder, config, dtype, attention, **options)
    check_weight_names(
        f"The weights in {folder}",
        architecture.title,
        missing=report["missing_keys"],
        unknown=report["unexpected_keys"],
        misshapen=report["mismatched_keys"],
    )
    if adapter is not None:
        network = merged(network, adapter)
        for key in (CONFIDENCE_KEY, HEADS_KEY):
            setattr(network.config, key, None)  # fitted on the answers of the base
    try:
        network.model.visual.to(vision_device or device)
        for part in (network.model.language_model, network.lm_head):
            part.to(device)
    except RuntimeError as error:
        raise ModelError(f"The model does not fit on {device}: {first_line(error)}") from error
    unmap_weights(network)
    return network.eval()


def load_part(
    kind: Any, folder: Path, config: Any, dtype: torch.dtype, attention: str, other: Callable[[str], bool]
) -> Any:
    """Load a network of class `kind` that is part of the folder's model, on the CPU.

    The files may contain other parts too: `other` returns True for the names of their weights. Raises ModelError if a
    weight is missing, unknown or misshapen.
    """
    check_counts(config, folder / "config.json")
    check_network_size(kind, config, folder, weight_files(folder))
    network, report = _from_pretrained(kind, folder, config, dtype, attention)
    unknown = [name for name in report["unexpected_keys"] if not other(name)]
    check_weight_names(
        f"The weights in {folder}", "the model", report["missing_keys"], unknown, report["mismatched_keys"]
    )
    unmap_weights(network)
    return network


def load_tokenizer(folder: Path, config: Any, architecture: Architecture = QWEN2_VL) -> Any:
    """The folder's tokenizer. Raises ModelError if there is none or it does not belong to the model."""
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise ModelError(
            f"{folder} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt. "
            f"Copy them from {architecture.published} or download the model again."
        )
    tokenizer = read_tokenizer(folder, config)
    template = folder / "chat_template.json"  # file of the template in older model folders
    if not tokenizer.chat_template and template.is_file():
        tokenizer.chat_template = read_json(template).get("chat_template")
    known = tokenizer.get_vocab()
    missing = [token for token in (VISION_START, VISION_END, TURN_END) if token not in known]
    if missing:
        raise ModelError(
            f"The tokenizer in {folder} is not that of a {architecture.title}: it lacks {name_list(missing)}."
        )
    if max(known.values()) >= config.text_config.vocab_size:
        raise ModelError(
            f"The tokenizer in {folder} has ids up to {max(known.values())}, "
            f"but the model has only {config.text_config.vocab_size} tokens: they do not belong together."
        )
    ChatPrompt.of(tokenizer)  # reports a broken chat template before weights are read, which takes minutes
    return tokenizer


def read_tokenizer(folder: Path, config: Any) -> Any:
    """Read the tokenizer files of a folder. Raises ModelError if one is unreadable or too large."""
    for file in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model", "tokenizer_config.json"):
        if (folder / file).is_file():
            check_size(folder / file, MAX_TOKENIZER_BYTES)
    with quiet_transformers(), panics_as_model_errors(f"The tokenizer in {folder}"):
        try:
            return AutoTokenizer.from_pretrained(folder, config=config, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            raise ModelError(f"The tokenizer in {folder} cannot be read: {first_line(error)}") from error


def _from_pretrained(
    kind: Any, folder: Path, config: Any, dtype: torch.dtype, attention: str, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """A network of class `kind` with weights from the folder, and the report of transformers on their names."""
    with quiet_transformers():
        try:
            network, report = kind.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # the report names them, as well as missing and unknown weights
                output_loading_info=True,
                **options,
            )
        except Exception as error:
            raise ModelError(f"The weights in {folder} cannot be loaded: {first_line(error)}") from error
    return network, report
