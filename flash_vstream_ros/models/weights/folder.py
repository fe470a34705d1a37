"""What the JSON files of a model folder say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.names import MODEL_TYPES


def model_type(folder: Path) -> str:
    """The family of a folder's model; ModelError when it is no model folder or of a family that is not supported."""
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(f"{folder} is no model folder: it has no config.json.")
    found = read_json(file).get("model_type")
    if found not in MODEL_TYPES:
        raise ModelError(f"{file}: model_type is {found!r}, but only {', '.join(MODEL_TYPES)} can be loaded.")
    return str(found)


def read_json(file: Path) -> dict[str, Any]:
    """The object that a JSON file holds; ModelError."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} is not readable JSON ({error}): download it again.") from error
    if not isinstance(values, dict):
        raise ModelError(f"{file} holds no JSON object: download it again.")
    return values
