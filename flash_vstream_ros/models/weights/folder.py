"""JSON files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.names import MODEL_TYPES

MAX_JSON_BYTES = 64_000_000  # an index of 100,000 weights has 10 MB
GGUF_ADVICE = (
    "GGUF files are not supported: name the folder or the hub id of the original model with safetensors weights, and "
    "use model.quantization 8bit or 4bit to save memory."
)


def model_type(folder: Path) -> str:
    """The `model_type` of a model folder. Raises ModelError if it is no model folder or not supported."""
    file = folder / "config.json"
    if not file.is_file():
        if "gguf" in folder.name.lower() or any(folder.glob("*.gguf")):
            raise ModelError(f"{folder} is a GGUF model. {GGUF_ADVICE}")
        raise ModelError(f"{folder} is no model folder: it has no config.json.")
    found = read_json(file).get("model_type")
    if found not in MODEL_TYPES:
        raise ModelError(f"{file}: model_type is {found!r}, but only {', '.join(MODEL_TYPES)} can be loaded.")
    return str(found)


def read_json(file: Path, most_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The object in a JSON file. Raises ModelError if the file is unreadable, too large or has no object."""
    check_size(file, most_bytes)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not readable JSON ({error}): download it again.") from error
    if not isinstance(values, dict):
        raise ModelError(f"{file} is not a JSON object: download it again.")
    return values


def check_size(file: Path, most_bytes: int) -> None:
    """Raise ModelError if the file is larger than `most_bytes`."""
    try:
        size = file.stat().st_size
    except OSError as error:
        raise ModelError(f"{file} is not readable ({error}): download it again.") from error
    if size > most_bytes:
        raise ModelError(
            f"{file} has {size} bytes, more than {most_bytes}, the limit for such a file: download it again."
        )
