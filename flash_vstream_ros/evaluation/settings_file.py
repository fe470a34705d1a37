"""Settings of a run that can be interrupted: written when it begins, compared when it is continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .item import DataError


def check_settings(path: Path, settings: dict[str, Any], option: str = "--out") -> None:
    """Write the settings of a new run, or raise DataError if those of an earlier run in the folder differ."""
    settings = json.loads(json.dumps(settings))  # as they are read back: tuples become lists
    if not path.exists():
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}; give another {option}") from error
    different = _different(before, settings)
    if len(different) == 1 and isinstance(before.get(different[0]), dict):
        different = _different(before[different[0]], settings[different[0]])
    if different:
        raise DataError(f"{path.parent} has answers of other settings ({', '.join(different)}): give another {option}")


def _different(before: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    return [name for name in settings if before.get(name) != settings[name]]
