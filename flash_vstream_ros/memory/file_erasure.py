"""Erases files: overwrites their bytes with zeros on the disk before it deletes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

ZEROS = bytes(1 << 20)


def erase_file(path: Path) -> None:
    """Overwrite a file, and delete it. Raises OSError."""
    with path.open("r+b") as file:
        overwrite(file)
    path.unlink()
    synchronise(path.parent)


def overwrite(file: Any) -> None:
    """Replace all bytes of an open file by zeros, also on the disk."""
    remaining = file.seek(0, os.SEEK_END)
    file.seek(0)
    while remaining > 0:
        remaining -= file.write(ZEROS[:remaining])
    file.flush()
    os.fsync(file.fileno())


def synchronise(folder: Path) -> None:
    """Write renames and deletions in `folder` to the disk, so that they survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
