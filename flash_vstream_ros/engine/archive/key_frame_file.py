"""The archive's file: opened when it is needed, set aside when it is damaged, erased. Owned by the archive's thread."""

from __future__ import annotations

from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.scope import Scope

from .archive_config import ArchiveConfig
from .archive_folder import ArchiveFolder, erase_database
from .archive_status import StatusBoard
from .database import DamagedArchive
from .store import KeyFrameStore


class KeyFrameFile:
    """The file of key frames in a folder that this process holds. Its problems are logged and counted on `board`."""

    def __init__(self, folder: ArchiveFolder, board: StatusBoard, log: ThrottledLog) -> None:
        self._folder = folder
        self._board = board
        self._log = log
        self._store: KeyFrameStore | None = None

    def opened(self) -> KeyFrameStore:
        """The store, opened if it is not; a damaged file is set aside first. Raises ArchiveError and OSError."""
        if self._store is None:
            self._folder.lock_again()
            try:
                self._store = KeyFrameStore(self._folder.database)
            except DamagedArchive as error:
                self._set_aside(error)
                self._store = KeyFrameStore(self._folder.database)
            self._board.note(key_frames=self._store.rows, bytes=self._store.bytes)
        self._store.check_is_there()
        return self._store

    @property
    def exists(self) -> bool:
        return self._folder.database.exists()

    def erase(self, scope: Scope, config: ArchiveConfig) -> int:
        """Delete what is in `scope` from every file. Returns the number of key frames.

        Raises ArchiveError and OSError.
        """
        erase_database(self._folder.unusable_database)
        if self._store is None and not self.exists:
            return 0
        if scope.everything:
            return self._erase_all()
        store = self.opened()
        try:
            rows = store.erase(scope, config)
        except DamagedArchive as error:
            self._erase_all()
            self._board.note(problems=1)
            self._log.report("archive", f"{error}; since a part of it had to be forgotten, the whole file is deleted")
            return 0
        self._board.note(key_frames=store.rows, bytes=store.bytes)
        if not config.max_bytes:
            self.close()
        return rows

    def report(self, error: Exception, lost: int = 0) -> None:
        """Log and count a problem with the file, and close it; the next call of `opened` opens it anew.

        `lost` key frames were not written.
        """
        self._abandon()
        sentence = f"the archive cannot be used: {error}"
        self._board.note(problem=sentence, problems=1, failed=lost)
        self._log.report("archive", sentence)
        if isinstance(error, DamagedArchive):
            try:
                self._set_aside(error)
            except OSError as moved:
                self._log.report("archive", f"the damaged archive cannot be moved: {moved}")

    def close(self) -> None:
        """Move the log into the database and close it. Raises ArchiveError."""
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _set_aside(self, error: DamagedArchive) -> None:
        self._folder.set_database_aside()
        sentence = f"{error}; it is kept as {self._folder.unusable_database}, and a new one begins"
        self._board.note(problem=sentence, problems=1)
        self._log.report("archive", sentence)

    def _erase_all(self) -> int:
        rows = self._board.status.key_frames
        self._abandon()
        erase_database(self._folder.database)
        self._board.note(key_frames=0, bytes=0)
        return rows

    def _abandon(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.abandon()
