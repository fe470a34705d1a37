"""The folder of the archive: one process at a time writes into it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from flash_vstream_ros.memory.memory_file import delete_memory


class FolderInUse(OSError):
    """Another process holds the folder."""


class ArchiveFolder:
    """A folder with the memory's file, held by this process until `close`. Raises OSError, FolderInUse among them."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise FolderInUse(f"{self.path} is in use by another node") from error

    @property
    def memory(self) -> Path:
        """The file of the memory."""
        return self.path / "memory.safetensors"

    @property
    def unfit(self) -> Path:
        """A memory that this node could not read, kept aside; forgetting deletes it."""
        return self.path / "unfit.safetensors"

    def set_aside(self) -> None:
        """Keep the file of the memory as `unfit`. Raises OSError."""
        self.memory.replace(self.unfit)

    def delete_unfit(self) -> None:
        """Raises OSError."""
        if self.unfit.exists():
            delete_memory(self.unfit)

    def close(self) -> None:
        os.close(self._lock)
