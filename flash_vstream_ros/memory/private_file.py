"""Writes files atomically, readable by their owner only."""

from __future__ import annotations

import os
from pathlib import Path

from .file_erasure import overwrite, synchronise


def write_private(path: Path, raw: bytes, erase: bool = False) -> None:
    """Replace `path` by a file with `raw`. If it raises OSError, `path` is unchanged.

    `erase`: overwrite the old file's bytes.
    """
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        old = path.open("r+b") if erase and path.exists() else None
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    synchronise(path.parent)
    if old is not None:
        with old:
            overwrite(old)
