"""Checks, without torch, that a model's files are complete on this machine, or available on the hub."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from flash_vstream_ros.models.names import (
    ADAPTER_CONFIG,
    HOUSEHOLD,
    HOUSEHOLD_FOLDER,
    MODEL_TYPES,
    TINY,
    VSTREAM,
    is_adapter,
)

OK, WARN, FAIL = "OK", "WARN", "FAIL"
HEADER_LIMIT = 100_000_000  # the limit of safetensors itself
HUB_TIMEOUT_S = 5.0
HALF_BYTES = 2  # size of a parameter in float16 or bfloat16, as models are published
ON = ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True)
class Check:
    """Result of a check: `state` is OK, WARN or FAIL; `advice` says what to do, "" if nothing."""

    name: str
    state: str
    found: str
    advice: str = ""


class ModelFiles(NamedTuple):
    """Files and sizes of a model; None: unknown."""

    check: Check
    parameters: int | None = None
    download_bytes: int | None = 0  # still to be downloaded


class _Weights(NamedTuple):
    """Size of weight files."""

    bytes: int
    parameters: int


def hub_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder that huggingface_hub downloads to."""
    home = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE") or Path(home) / "hub"
    return Path(cache).expanduser()


def find_model(model: str, environment: Mapping[str, str] = os.environ) -> ModelFiles:
    """Examine config, tokenizer and headers of weights. If the model is not on this machine, ask the hub."""
    if model == TINY:
        advice = "its answers mean nothing: name a trained model"
        return ModelFiles(Check("model", WARN, f"{model} has random weights, created in memory", advice), 0)
    folder = HOUSEHOLD_FOLDER if model == HOUSEHOLD else Path(model).expanduser()
    if is_adapter(folder):
        return _check_adapter(folder, environment)
    if folder.is_dir():
        return _check_folder(folder, f"copy the missing files into {folder.absolute()}")
    if model[:1] in ("", ".", "/", "~") or model.count("/") != 1:
        advice = "name a folder or a hub id (owner/model)"
        return _failed(f"there is no folder {folder.absolute()}", advice)
    cached = hub_cache(environment) / f"models--{model.replace('/', '--')}" / "snapshots"
    snapshots = sorted((p for p in cached.glob("*") if p.is_dir()), key=lambda p: p.stat().st_mtime)
    fetch = f"hf download {model} (off-line: copy its folder here and name the folder)"
    if snapshots:
        return _check_folder(_current(cached, snapshots), fetch)
    if environment.get("HF_HUB_OFFLINE", "").upper() in ON:
        return _failed(f"{model} is not in {cached}, and HF_HUB_OFFLINE forbids its download", fetch)
    return _on_the_hub(model, cached, fetch, environment)


def _failed(found: str, advice: str) -> ModelFiles:
    return ModelFiles(Check("model", FAIL, found, advice))


def _on_the_hub(model: str, cached: Path, fetch: str, environment: Mapping[str, str]) -> ModelFiles:
    """Check that the hub has a model, and find its size."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
        from huggingface_hub.utils import validate_repo_id
    except ImportError as error:
        return _failed(f"{model} is not in {cached}, and huggingface_hub fails to import: {error}", fetch)
    endpoint = environment.get("HF_ENDPOINT") or None
    try:
        validate_repo_id(model)
        info = HfApi(endpoint=endpoint).model_info(model, files_metadata=True, timeout=HUB_TIMEOUT_S)
    except HFValidationError as error:
        return _failed(f"{model} cannot be a hub id: {_first_line(error)}", "name a folder or a hub id (owner/model)")
    except GatedRepoError:
        return _failed(f"{model} is gated", "accept its terms on the hub and log in: hf auth login")
    except RepositoryNotFoundError:
        return _failed(f"the hub has no model {model}", "check the spelling, or log in if it is private: hf auth login")
    except Exception as error:  # the hub's HTTP client raises its own errors
        reason = f"the hub was not reached ({_first_line(error)})"
        return ModelFiles(Check("model", WARN, f"{model} is not in {cached}; {reason}", fetch), None, None)
    size = _published_bytes(info.siblings or [])
    if not size:
        return _failed(f"{model} on the hub has no weights in safetensors or .bin files", "choose a model with weights")
    found = f"{model} is not in {cached}; the node downloads {size / 1e9:.1f} GB at its first start"
    parameters = getattr(info.safetensors, "total", None) or size // HALF_BYTES
    return ModelFiles(Check("model", WARN, found, f"to download it now: {fetch}"), parameters, size)


def _published_bytes(files: Any) -> int:
    """Size of the weights among a hub model's files: safetensors files, or .bin files if there are none."""
    for suffix in (".safetensors", ".bin"):
        size = sum(file.size or 0 for file in files if file.rfilename.endswith(suffix))
        if size:
            return size
    return 0


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _check_adapter(folder: Path, environment: Mapping[str, str]) -> ModelFiles:
    """Examine a LoRA adapter and its base model."""
    file = folder / ADAPTER_CONFIG
    try:
        base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
        size = _safetensors(folder / "adapter_model.safetensors").bytes
    except (OSError, ValueError) as error:
        return _failed(f"{folder}: {error}", f"copy the missing files into {folder.absolute()}")
    except (LookupError, TypeError, AttributeError):
        return _failed(f"{file} does not name its base model", "set base_model_name_or_path in it")
    base_files = find_model(str(base), environment)
    found = f"{folder}: LoRA adapter, {size / 1e6:.1f} MB, over {base_files.check.found}"
    return base_files._replace(check=Check("model", base_files.check.state, found, base_files.check.advice))


def _current(snapshots: Path, found: list[Path]) -> Path:
    """The snapshot that is the newest revision of the main branch; if it is unknown, the newest of `found`."""
    try:
        named = snapshots / (snapshots.parent / "refs" / "main").read_text().strip()
    except OSError:
        return found[-1]
    return named if named in found else found[-1]


def _check_folder(folder: Path, advice: str) -> ModelFiles:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type")
        files = _weight_files(folder)
        weights = [_weights(file) for file in files]
    except (OSError, ValueError) as error:
        return _failed(f"{folder}: {error}", advice)
    except (LookupError, TypeError, AttributeError) as error:
        return _failed(f"{folder}: a JSON file has unexpected content ({error!r})", advice)
    if kind not in MODEL_TYPES:
        return _failed(f"{folder}: model_type is {kind!r}", f"choose one of {' or '.join(MODEL_TYPES)}")
    other = "tokenizer.model" if kind == VSTREAM else "vocab.json"
    if not any((folder / name).exists() for name in ("tokenizer.json", other)):
        return _failed(f"{folder}: no tokenizer.json and no {other}", advice)
    size = sum(each.bytes for each in weights)
    check = Check("model", OK, f"{folder}: {kind}, {len(files)} weight files, {size / 1e9:.2f} GB")
    return ModelFiles(check, sum(each.parameters for each in weights))


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    older = folder / "pytorch_model.bin", folder / "pytorch_model.bin.index.json"
    if not single.exists() and not index.exists() and any(file.exists() for file in older):
        single, index = older
    if not index.exists():
        return [single]
    return [folder / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]


def _weights(file: Path) -> _Weights:
    if file.suffix == ".bin":
        size = file.stat().st_size
        return _Weights(size, size // HALF_BYTES)
    return _safetensors(file)


def _safetensors(file: Path) -> _Weights:
    """Sizes from the file's header. Raises ValueError if the file is cut short or not a safetensors file."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 0 < length <= min(size - 8, HEADER_LIMIT):
            raise ValueError(f"{file.name} ({size} bytes) is cut short or not a safetensors file")
        header = json.loads(opened.read(length))
    tensors = [entry for key, entry in header.items() if key != "__metadata__"]
    end = max((tensor["data_offsets"][1] for tensor in tensors), default=0)
    if size != 8 + length + end:
        raise ValueError(f"{file.name} has {size} bytes, but its header needs {8 + length + end}: it is cut short")
    return _Weights(size, sum(math.prod(tensor["shape"]) for tensor in tensors))
