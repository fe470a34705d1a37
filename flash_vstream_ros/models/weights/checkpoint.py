"""Model folders in the hub's layout, checked before anything runs.

transformers fills weights that a checkpoint lacks with random numbers and only warns; here that is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.utils import logging

from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.prompt import TURN_END, VISION_END, VISION_START

from .adapter import merged
from .folder import read_json
from .quantised import quantisation_config

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """A weight file of safetensors; ModelError where it is damaged."""
    with sound(file), safe_open(file, framework="pt") as weights:
        yield weights


@contextmanager
def sound(file: Path) -> Iterator[None]:
    """ModelError where a weight file that is read meanwhile is damaged."""
    try:
        yield
    except (SafetensorError, OSError, RuntimeError, UnpicklingError, EOFError) as error:
        size = f"{file.stat().st_size} bytes" if file.is_file() else "which is not there"
        raise ModelError(
            f"{file} ({size}) is damaged or cut short ({first_line(error)}): download it again."
        ) from error


def read_weights(file: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, torch.Tensor]:
    """The tensors of a weight file whose names are wanted, on the CPU; ModelError where it is damaged."""
    with opened(file) as weights:
        return {name: weights.get_tensor(name) for name in weights.keys() if wanted(name)}  # noqa: SIM118


class Architecture(NamedTuple):
    """A family as transformers knows it."""

    title: str
    config: Any
    network: Any
    published: str  # hub id of a model of it


QWEN2_VL = Architecture("Qwen2-VL", Qwen2VLConfig, Qwen2VLForConditionalGeneration, "Qwen/Qwen2-VL-7B-Instruct")


def read_config(folder: Path, architecture: Architecture = QWEN2_VL) -> Any:
    """The folder's configuration; ModelError when it describes another kind of model."""
    file = folder / "config.json"
    values = {**read_json(file), "model_type": architecture.config.model_type}
    try:
        return architecture.config.from_dict(values)
    except Exception as error:
        raise ModelError(f"{file} does not describe a {architecture.title}: {first_line(error)}") from error


def listed_files(folder: Path, single: str, index: str) -> list[Path]:
    """The files that the folder's index names, else the single one; ModelError when the index is damaged."""
    if not (folder / index).is_file():
        return [folder / single]
    listed = read_json(folder / index).get("weight_map")
    if not isinstance(listed, dict):
        raise ModelError(f"{folder / index} has no weight_map: download it again.")
    return [folder / name for name in sorted(set(listed.values()))]


def check_files(folder: Path) -> None:
    """Reads the header of every weight file; ModelError names the one that is missing or damaged."""
    for file in listed_files(folder, WEIGHTS, INDEX):
        if not file.is_file():
            raise ModelError(f"The weights are incomplete: {file} does not exist. Download the model again.")
        with opened(file) as weights:
            weights.keys()


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
    """The network with every weight from the folder's files; ModelError when one is missing, unknown or misshapen.

    The vision tower is put on `vision_device`, where one is given. `adapter` is the folder of a LoRA adapter to merge.
    """
    config = read_config(folder, architecture)
    check_files(folder)
    how: dict[str, Any] = {}
    if quantization != "none":
        how = {"quantization_config": quantisation_config(quantization, dtype), "device_map": {"": str(device)}}
    with quiet():
        try:
            network, loading = architecture.network.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # reported by name below, with all the others
                output_loading_info=True,
                **how,
            )
        except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
            raise ModelError(f"The weights in {folder} cannot be loaded: {first_line(error)}") from error
    complain_of(
        f"The weights in {folder}",
        architecture.title,
        missing=loading["missing_keys"],
        unknown=loading["unexpected_keys"],
        misshapen=loading["mismatched_keys"],
    )
    if adapter is not None:
        network = merged(network, adapter)
    try:
        network.model.visual.to(vision_device or device)
        for part in (network.model.language_model, network.lm_head):
            part.to(device)
    except RuntimeError as error:
        raise ModelError(f"The model does not fit on {device}: {first_line(error)}") from error
    return network.eval()


def complain_of(
    what: str,
    title: str,
    missing: Collection[str] = (),
    unknown: Collection[str] = (),
    misshapen: Collection[tuple[Any, ...]] = (),
) -> None:
    """Raises the ModelError that names weights which a checkpoint lacks, has too many, or has in other shapes."""
    for how, names in (
        ("lack", missing),
        (f"have, unknown to {title},", unknown),
        ("have in other shapes than config.json says", [_shapes(*key) for key in misshapen]),
    ):
        if names:
            raise ModelError(f"{what} {how} {_listing(names)}. Download the model again.")


def load_tokenizer(folder: Path, config: Any, architecture: Architecture = QWEN2_VL) -> Any:
    """The folder's tokenizer; ModelError when there is none or it does not belong to the model."""
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise ModelError(
            f"{folder} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt. "
            f"Copy them from {architecture.published} or download the model again."
        )
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, config=config, local_files_only=True)
        except Exception as error:
            raise ModelError(f"The tokenizer in {folder} cannot be read: {first_line(error)}") from error
    template = folder / "chat_template.json"  # where processors used to keep it
    if not tokenizer.chat_template and template.is_file():
        tokenizer.chat_template = read_json(template).get("chat_template")
    known = tokenizer.get_vocab()
    missing = [token for token in (VISION_START, VISION_END, TURN_END) if token not in known]
    if missing:
        raise ModelError(
            f"The tokenizer in {folder} is not that of a {architecture.title}: it lacks {_listing(missing)}."
        )
    if max(known.values()) >= config.text_config.vocab_size:
        raise ModelError(
            f"The tokenizer in {folder} has ids up to {max(known.values())}, "
            f"but the model only {config.text_config.vocab_size} tokens: they do not belong together."
        )
    return tokenizer


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' reports out of a log; progress bars stay where somebody watches a terminal."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """What an error says, cut short; its kind where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _shapes(name: str, found: Any = None, expected: Any = None) -> str:
    return f"{name} {tuple(found)} instead of {tuple(expected)}" if found is not None else name


def _listing(names: Iterable[str], shown: int = 5) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - shown} more" if len(ordered) > shown else ""
    return ", ".join(ordered[:shown]) + more
