"""Finds the folder of a model by its name: a folder, a hub id, or the model in this package."""

from __future__ import annotations

from pathlib import Path

from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.names import HOUSEHOLD, HOUSEHOLD_FOLDER, TINY

from .folder import GGUF_ADVICE
from .hub import download


def find_folder(name: str) -> Path:
    """The folder of the model `name`. Downloads a hub model unless it is in the cache. Raises ModelError."""
    if name == HOUSEHOLD:
        return HOUSEHOLD_FOLDER
    folder = Path(name).expanduser().absolute()
    if folder.is_dir():
        return folder
    if folder.suffix.lower() == ".gguf":
        raise ModelError(f"{folder} is a GGUF file. {GGUF_ADVICE}")
    if folder.is_file():
        raise ModelError(f"{folder} is a file: give the folder that contains it.")
    if not name or name[0] in "./~\\" or name.count("/") != 1:
        raise ModelError(
            f"There is no model folder {folder}. Name a folder, a hub id such as owner/model, "
            f"{HOUSEHOLD!r} or {TINY!r}."
        )
    return download(name, folder)
