"""Model folders in the hub's layout, checked before anything runs.

transformers fills weights that a checkpoint lacks with random numbers and only warns; here that is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.utils import logging

from .folder import read_json
from .interface import ModelError
from .prompt import TURN_END, VISION_END, VISION_START

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


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
        raise ModelError(f"{file} does not describe a {architecture.title}: {_first_line(error)}") from error


def check_files(folder: Path) -> None:
    """Reads the header of every weight file; ModelError names the one that is missing or damaged."""
    index = folder / INDEX
    if index.is_file():
        listed = read_json(index).get("weight_map")
        if not isinstance(listed, dict):
            raise ModelError(f"{index} has no weight_map: download it again.")
        names = sorted(set(listed.values()))
    else:
        names = [WEIGHTS]
    for name in names:
        file = folder / name
        if not file.is_file():
            raise ModelError(f"The weights are incomplete: {file} does not exist. Download the model again.")
        try:
            with safe_open(file, framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            size = file.stat().st_size
            raise ModelError(
                f"{file} ({size} bytes) is damaged or cut short ({_first_line(error)}): download it again."
            ) from error


def load_network(
    folder: Path, device: torch.device, dtype: torch.dtype, attention: str, architecture: Architecture = QWEN2_VL
) -> Any:
    """The network with every weight from the folder's files; ModelError when one is missing, unknown or misshapen."""
    config = read_config(folder, architecture)
    check_files(folder)
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
            )
        except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
            raise ModelError(f"The weights in {folder} cannot be loaded: {_first_line(error)}") from error
    misshapen = [_shapes(*key) for key in loading["mismatched_keys"]]
    for what, names in (
        ("lack", loading["missing_keys"]),
        (f"have, unknown to {architecture.title},", loading["unexpected_keys"]),
        ("have in other shapes than config.json says", misshapen),
    ):
        if names:
            raise ModelError(f"The weights in {folder} {what} {_listing(names)}. Download the model again.")
    try:
        return network.to(device).eval()
    except RuntimeError as error:
        raise ModelError(f"The model does not fit on {device}: {_first_line(error)}") from error


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
            raise ModelError(f"The tokenizer in {folder} cannot be read: {_first_line(error)}") from error
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


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _shapes(name: str, found: Any = None, expected: Any = None) -> str:
    return f"{name} {tuple(found)} instead of {tuple(expected)}" if found is not None else name


def _listing(names: Iterable[str], shown: int = 5) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - shown} more" if len(ordered) > shown else ""
    return ", ".join(ordered[:shown]) + more
