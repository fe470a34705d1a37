"""Whether a model's files are on this machine and complete, found out without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
HEADER_LIMIT = 100_000_000  # as safetensors itself


@dataclass(frozen=True)
class Check:
    """One finding: state OK, WARN or FAIL; `advice` says what to do, empty where nothing is to be done."""

    name: str
    state: str
    found: str
    advice: str = ""


def hub_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """Where huggingface_hub keeps its downloads."""
    home = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE") or Path(home) / "hub"
    return Path(cache).expanduser()


def check_model(model: str, environment: Mapping[str, str] = os.environ) -> Check:
    """Looks at config, weights and tokenizer; reads no weights."""
    if model == TINY:
        return Check("model", WARN, f"{model} is made in memory", "its answers mean nothing: name a trained model")
    folder = HOUSEHOLD_FOLDER if model == HOUSEHOLD else Path(model).expanduser()
    if is_adapter(folder):
        return _check_adapter(folder, environment)
    if folder.is_dir():
        return _check_folder(folder, f"copy the missing files into {folder.absolute()}")
    if model[:1] in ("", ".", "/", "~") or model.count("/") != 1:
        return Check(
            "model", FAIL, f"there is no folder {folder.absolute()}", "name a folder or a hub id (owner/model)"
        )
    cached = hub_cache(environment) / f"models--{model.replace('/', '--')}" / "snapshots"
    snapshots = sorted((p for p in cached.glob("*") if p.is_dir()), key=lambda p: p.stat().st_mtime)
    fetch = f"hf download {model} (off-line: copy its folder here and name the folder)"
    if snapshots:
        return _check_folder(_current(cached, snapshots), fetch)
    if environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Check("model", FAIL, f"{model} is not in {cached}, and HF_HUB_OFFLINE forbids to fetch it", fetch)
    return Check("model", WARN, f"{model} is not in {cached}; the node will download it at its first start", fetch)


def _check_adapter(folder: Path, environment: Mapping[str, str]) -> Check:
    """Looks at what the adapter is over."""
    file = folder / ADAPTER_CONFIG
    try:
        base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
        size = _checked_size(folder / "adapter_model.safetensors")
    except (OSError, ValueError) as error:
        return Check("model", FAIL, f"{folder}: {error}", f"copy the missing files into {folder.absolute()}")
    except (LookupError, TypeError):
        return Check("model", FAIL, f"{file} does not say over which model it is", "set base_model_name_or_path in it")
    under = check_model(str(base), environment)
    return Check("model", under.state, f"{folder}: LoRA adapter, {size / 1e6:.1f} MB, over {under.found}", under.advice)


def _current(snapshots: Path, found: list[Path]) -> Path:
    try:
        named = snapshots / (snapshots.parent / "refs" / "main").read_text().strip()
    except OSError:
        return found[-1]
    return named if named in found else found[-1]


def _check_folder(folder: Path, advice: str) -> Check:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type")
        weights = _weight_files(folder)
        size = sum(_checked_size(file) for file in weights)
    except (OSError, ValueError) as error:
        return Check("model", FAIL, f"{folder}: {error}", advice)
    except (LookupError, TypeError, AttributeError) as error:
        return Check("model", FAIL, f"{folder}: a JSON file is not what it should be ({error!r})", advice)
    if kind not in MODEL_TYPES:
        return Check("model", FAIL, f"{folder}: model_type is {kind!r}", f"choose one of {' or '.join(MODEL_TYPES)}")
    other = "tokenizer.model" if kind == VSTREAM else "vocab.json"
    if not any((folder / name).exists() for name in ("tokenizer.json", other)):
        return Check("model", FAIL, f"{folder}: no tokenizer.json and no {other}", advice)
    return Check("model", OK, f"{folder}: {kind}, {len(weights)} weight files, {size / 1e9:.2f} GB")


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    older = folder / "pytorch_model.bin", folder / "pytorch_model.bin.index.json"
    if not single.exists() and not index.exists() and any(file.exists() for file in older):
        single, index = older
    if not index.exists():
        return [single]
    return [folder / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]


def _checked_size(file: Path) -> int:
    """Size of a file of weights. ValueError for safetensors cut short or something else, by their header."""
    size = file.stat().st_size
    if file.suffix == ".bin":
        return size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 0 < length <= min(size - 8, HEADER_LIMIT):
            raise ValueError(f"{file.name} ({size} bytes) is cut short or no safetensors file")
        header = json.loads(opened.read(length))
    end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
    if size != 8 + length + end:
        raise ValueError(f"{file.name} has {size} bytes, its header promises {8 + length + end}: cut short")
    return size
