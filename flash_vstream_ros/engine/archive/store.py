"""Store of key frames: one SQLite file of bounded size. Owned by the archive's thread."""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from flash_vstream_ros.memory.file_erasure import overwrite
from flash_vstream_ros.memory.scope import Scope

from .archive_config import ArchiveConfig
from .archive_folder import database_files
from .database import (
    PAGE_BYTES,
    ArchiveError,
    DamagedArchive,
    bytes_on_disk,
    condition,
    open_for_writing,
    pragma,
    translated,
)
from .key_frame import KeyFrame
from .key_frame_queue import Extensions
from .key_frame_rows import COLUMNS, row_of
from .thinning import DAY_NS, PRESENT_SAMPLE, Candidate, chosen, present_ns

MAX_LOG_BYTES = 16 << 20
INDEX_BYTES = 64 << 10  # of the write-ahead log's index, for a log of MAX_LOG_BYTES
ROW_BYTES = 64 << 10  # of the log for one row and the rows deleted for it
SLACK_PAGES = 16  # for what a transaction adds to the indices
PLANNED = 16  # each thinning plan frees 1/16 of the bound


class KeyFrameStore:
    """An open archive. After an ArchiveError the call has changed everything or nothing; the file must be reopened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        _, self._log, _ = database_files(path)
        self._connection = open_for_writing(path)
        self._plan: deque[int] = deque()  # ids to be deleted next
        self._is_behind = False  # the last checkpoint met a reader
        self._ids: dict[tuple[str, int], int] = {}  # of each camera's newest key frame, by its key
        try:
            with translated(path):
                self._inode = os.stat(path)
                self.rows = int(self._execute("SELECT count(*) FROM key_frames").fetchone()[0])
                newest = self._execute(
                    "SELECT camera, last_ns FROM key_frames ORDER BY id DESC LIMIT ?", [PRESENT_SAMPLE]
                ).fetchall()[::-1]
                self.newest_ns = {str(camera): int(stamp) for camera, stamp in newest}  # of some cameras, at opening
                self._newest = deque((int(stamp) for _, stamp in newest), PRESENT_SAMPLE)
        except BaseException:
            self._connection.close()
            raise

    @property
    def bytes(self) -> int:
        """Bytes on the disk."""
        with translated(self._path):
            return bytes_on_disk(self._path)

    def check_is_there(self) -> None:
        """Raises ArchiveError if the open file is no longer the one in the folder."""
        with translated(self._path):
            if not os.path.samestat(self._inode, os.stat(self._path)):
                raise ArchiveError(f"{self._path} was replaced while the node wrote it; it is opened anew")

    def make_room(self, config: ArchiveConfig) -> bool:
        """Take one step towards the size and age that `config` allows. Returns False if there is more to do."""
        with translated(self._path):
            limit, most = _max_pages(config), _batch_bytes(config)
            self._begin()
            oldest_ns = present_ns(self._newest) - round(config.max_days * DAY_NS)
            aged = self._delete_some("last_ns < ?", [oldest_ns], most)
            surplus = pragma(self._connection, "page_count") - limit
            if surplus > 0:
                self._free(min(surplus + SLACK_PAGES, most // PAGE_BYTES), config)
            self._execute("COMMIT")
            if surplus > 0:
                self._execute(f"PRAGMA incremental_vacuum({most // PAGE_BYTES})").fetchall()
            if aged or surplus > 0:
                self._checkpoint()
                self._bound_log(config)
            return not aged and pragma(self._connection, "page_count") <= limit

    def write(self, frames: Sequence[KeyFrame], extensions: Extensions, config: ArchiveConfig) -> int:
        """Write key frames in one transaction. Returns the number of key frames deleted for them.

        `batch` gives the largest number of `frames`.
        """
        with translated(self._path):
            if self._is_behind:
                self._checkpoint()
            before = self.rows
            self._begin()
            for key, last_ns in extensions.items():
                if (row := self._ids.get(key)) is not None:
                    self._execute("UPDATE key_frames SET last_ns = max(last_ns, ?) WHERE id = ?", [last_ns, row])
            spare = _max_pages(config) - pragma(self._connection, "page_count")
            self._free(sum(_pages(frame) for frame in frames) + SLACK_PAGES - spare, config)
            deleted = before - self.rows
            ids = {frame.key: self._insert(frame, extensions) for frame in frames}
            self._execute("COMMIT")
            self._ids = _newest_of_each(self._ids | ids)
            self._newest.extend(frame.last_ns for frame in frames)
            self.rows += len(frames)
            self._is_behind = not self._try_checkpoint()
            if not self._is_behind:
                self._bound_log(config)
            return deleted

    def erase(self, scope: Scope, config: ArchiveConfig) -> int:
        """Delete and overwrite everything in scope, also in the log. Returns the number of key frames."""
        with translated(self._path):
            where, values = condition(scope)
            self._plan.clear()
            total = 0
            while True:
                self._begin()
                deleted = self._delete_some(where, values, _batch_bytes(config))
                self._execute("COMMIT")
                self._checkpoint()
                if not deleted:
                    break
                total += deleted
            self._overwrite_log()
            return total

    def close(self) -> None:
        """Move the log into the database and close it."""
        try:
            with translated(self._path):
                self._checkpoint()
                self._overwrite_log()
        finally:
            self._connection.close()

    def abandon(self) -> None:
        """Close the file without further writes."""
        self._connection.close()

    def _execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)

    def _begin(self) -> None:
        if self._connection.in_transaction:
            self._execute("ROLLBACK")
        self._execute("BEGIN IMMEDIATE")

    def _insert(self, frame: KeyFrame, extensions: Mapping[tuple[str, int], int]) -> int:
        values = *row_of(frame, max(frame.last_ns, extensions.get(frame.key, 0))), len(frame.jpeg)
        places = ", ".join("?" * len(values))
        row = self._execute(f"INSERT INTO key_frames ({COLUMNS}, bytes) VALUES ({places})", values).lastrowid
        assert row is not None
        return row

    def _free(self, pages: int, config: ArchiveConfig) -> None:
        """Delete key frames as planned until `pages` are free."""
        is_new_plan = False
        while pragma(self._connection, "freelist_count") < pages:
            if not self._plan:
                if is_new_plan:  # all are deleted
                    return
                self._plan.extend(self._chosen(max(config.max_bytes // PLANNED, pages * PAGE_BYTES)))
                is_new_plan = True
            if self._plan:
                self.rows -= self._execute("DELETE FROM key_frames WHERE id = ?", [self._plan.popleft()]).rowcount

    def _chosen(self, free_bytes: int) -> list[int]:
        rows = self._execute("SELECT id, camera, last_ns, novelty, bytes FROM key_frames").fetchall()
        return chosen([Candidate(*row) for row in rows], present_ns(self._newest), free_bytes)

    def _delete_some(self, where: str, values: Sequence[object], most_bytes: int) -> int:
        """Delete rows of at most `most_bytes`, but at least one. Returns their number."""
        rows = self._execute(f"SELECT id, bytes FROM key_frames WHERE {where} LIMIT 256", values).fetchall()
        ids: list[int] = []
        size = 0
        for row, row_bytes in rows:
            size += row_bytes + PAGE_BYTES
            if ids and size > most_bytes:
                break
            ids.append(row)
        deleted = self._connection.executemany("DELETE FROM key_frames WHERE id = ?", [[row] for row in ids]).rowcount
        if ids and deleted != len(ids):
            raise DamagedArchive(f"{self._path} is damaged: its index and its table differ")
        self.rows -= len(ids)
        return len(ids)

    def _checkpoint(self) -> None:
        """Move the log into the database; the next transaction overwrites the log from its beginning."""
        if not self._try_checkpoint():
            raise ArchiveError(f"{self._path} is being read by another program for too long; end that")
        self._is_behind = False

    def _try_checkpoint(self) -> bool:
        is_busy, *_ = self._execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        return not is_busy

    def _bound_log(self, config: ArchiveConfig) -> None:
        """Truncate a log that is too large. To be called after a checkpoint."""
        if self._log.exists() and self._log.stat().st_size > _log_bytes(config):
            self._overwrite_log()

    def _overwrite_log(self) -> None:
        """Overwrite and truncate the log. To be called after a checkpoint, while no one reads."""
        if self._log.exists():
            with self._log.open("r+b") as file:
                overwrite(file)
        is_busy, *_ = self._execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise ArchiveError(f"{self._path} is being read by another program; ask again")


def batch(frames: Sequence[KeyFrame], config: ArchiveConfig) -> int:
    """The number of `frames` for one transaction; 0 if the first one is too large for the archive."""
    size = count = 0
    for frame in frames[: max(1, _log_bytes(config) // ROW_BYTES)]:
        size += len(frame.jpeg)
        if size > _batch_bytes(config):
            break
        count += 1
    return count


def _log_bytes(config: ArchiveConfig) -> int:
    """Largest size of the write-ahead log."""
    return min(MAX_LOG_BYTES, config.max_bytes // 8) or MAX_LOG_BYTES


def _batch_bytes(config: ArchiveConfig) -> int:
    return _log_bytes(config) // 4


def _max_pages(config: ArchiveConfig) -> int:
    """Largest number of pages of the database, without its log."""
    return max(0, config.max_bytes - _log_bytes(config) - INDEX_BYTES) // PAGE_BYTES


def _pages(frame: KeyFrame) -> int:
    """Largest number of pages of a row."""
    return (len(frame.jpeg) + len(frame.camera) + len(frame.frame_id) + 256) // (PAGE_BYTES - 4) + 2


def _newest_of_each(ids: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    """Of each camera, the key with the highest id."""
    newest: dict[str, tuple[tuple[str, int], int]] = {}
    for key, row in sorted(ids.items(), key=lambda item: item[1]):
        newest[key[0]] = key, row
    return dict(newest.values())
