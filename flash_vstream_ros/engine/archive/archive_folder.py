"""The folder of the archive: one process at a time writes into it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from flash_vstream_ros.memory.file_erasure import erase_file
from flash_vstream_ros.memory.memory_file import delete_memory

DATABASE = "archive.sqlite"


class FolderInUse(OSError):
    """Another process holds the folder."""


class ArchiveFolder:
    """A folder that this process holds until `close`. If it does not hold it, `problem` says why."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        self.problem = ""
        self._lock: int | None = None
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = self._locked()
        except OSError as error:
            self.problem = str(error)

    @property
    def memory(self) -> Path:
        """The file of the memory."""
        return self.path / "memory.safetensors"

    @property
    def unusable(self) -> Path:
        """A file of the memory that this node could not read; forgetting deletes it."""
        return self.path / "unusable.safetensors"

    @property
    def database(self) -> Path:
        """The file of the key frames."""
        return self.path / DATABASE

    @property
    def unusable_database(self) -> Path:
        """A damaged file of key frames; forgetting deletes it."""
        return self.path / "unusable.sqlite"

    def lock_again(self) -> None:
        """Lock the folder anew if it was removed and created again. Raises OSError, also as FolderInUse."""
        try:
            is_held = self._lock is not None and os.path.samestat(os.fstat(self._lock), os.stat(self.path / "lock"))
        except FileNotFoundError:
            is_held = False
        if not is_held:
            before, self._lock = self._lock, self._locked()
            if before is not None:
                os.close(before)

    def set_aside(self) -> None:
        """Keep the file of the memory as `unusable`. Raises OSError."""
        self.memory.replace(self.unusable)

    def delete_unusable(self) -> None:
        """Raises OSError."""
        if self.unusable.exists():
            delete_memory(self.unusable)

    def set_database_aside(self) -> None:
        """Rename the files of the key frames to `unusable_database`, replacing older ones. Raises OSError.

        The database must be closed.
        """
        for file, aside in zip(database_files(self.database), database_files(self.unusable_database), strict=True):
            if file.exists():
                file.replace(aside)
            elif aside.exists():
                erase_file(aside)

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _locked(self) -> int:
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise FolderInUse(f"{self.path} is in use by another node") from error
        return lock


def database_files(path: Path) -> list[Path]:
    """A database, its write-ahead log and the index of the log; each may be missing."""
    return [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]


def erase_database(path: Path) -> None:
    """Overwrite and delete the files of a database, which must be closed. Raises OSError."""
    for file in database_files(path):
        if file.exists():
            erase_file(file)
