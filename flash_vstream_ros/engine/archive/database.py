"""Opens, checks and creates the archive's SQLite file, for the node that writes it and for readers.

docs/concepts/archive.md describes the tables.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from flash_vstream_ros.memory.scope import Scope

from .archive_folder import database_files
from .key_frame import KeyFrame
from .key_frame_rows import COLUMNS, key_frame_of
from .thinning import HOUR_NS

VERSION = 2  # of the tables, in PRAGMA user_version
PAGE_BYTES = 4096
SCHEMA = (
    """CREATE TABLE key_frames (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  camera TEXT NOT NULL,
  frame_id TEXT NOT NULL,
  first_ns INTEGER NOT NULL,
  last_ns INTEGER NOT NULL,
  stamp_ns INTEGER NOT NULL,
  novelty REAL NOT NULL,
  cluster INTEGER,
  pose_unknown TEXT, pose_frame TEXT, pose_map TEXT,
  x REAL, y REAL, z REAL, qx REAL, qy REAL, qz REAL, qw REAL, covariance BLOB,
  bytes INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  jpeg BLOB NOT NULL
)""",
    "CREATE INDEX key_frames_by_time ON key_frames (last_ns, first_ns, camera, stamp_ns, novelty, bytes)",
)


class ArchiveError(RuntimeError):
    """The archive cannot be used; the message says why and what to do."""


class DamagedArchive(ArchiveError):
    """The file is not an archive, or its contents have changed since they were written."""


class ArchivedHour(NamedTuple):
    """The key frames of one camera in one hour of message time."""

    begin_ns: int
    camera: str
    key_frames: int
    bytes: int


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into ArchiveError or DamagedArchive."""
    try:
        yield
    except sqlite3.Error as error:
        # SQLITE_CORRUPT and SQLITE_NOTADB raise the base class itself; sqlite_errorcode exists from Python 3.11 on.
        kind = DamagedArchive if type(error) is sqlite3.DatabaseError else ArchiveError
        raise kind(f"{path}: {error}") from error
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror or error}") from error
    except (TypeError, ValueError, OverflowError, MemoryError) as error:  # values that this package never writes
        raise DamagedArchive(f"{path} is damaged: {error!r}") from error


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the archive, or create it, readable by its owner only. Raises ArchiveError or DamagedArchive."""
    with translated(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # must precede SQLite's lock, since closing releases it
        connection = _connected(f"{path}", timeout_s=1.0)
    try:
        with translated(path):
            if _is_empty(connection):
                _create(connection)
            _check(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the archive for reading; a node may write it at the same time. Raises ArchiveError."""
    if not path.is_file():
        raise ArchiveError(f"there is no {path}: archive.max_gib of the node is 0, or it has seen nothing yet")
    with translated(path), closing(_connected(f"file:{_quoted(path)}?mode=ro", timeout_s=5.0, uri=True)) as connection:
        if _is_empty(connection):
            raise ArchiveError(f"{path} is empty: the node that created it has archived nothing yet")
        _check(connection, path)
        yield connection


def read_key_frames(connection: sqlite3.Connection, scope: Scope) -> Iterator[KeyFrame | None]:
    """The key frames in scope in order of their stamps; None for each that is damaged or deleted meanwhile.

    Rows are read one by one: during a longer read the node could not reuse the log.
    """
    where, values = condition(scope)
    order = "ORDER BY stamp_ns, id"
    for (row,) in connection.execute(f"SELECT id FROM key_frames WHERE {where} {order}", values).fetchall():
        yield read_key_frame(connection, row)


def read_key_frame(connection: sqlite3.Connection, row: int) -> KeyFrame | None:
    """The key frame with this id; None if it is damaged, or was deleted meanwhile."""
    found = connection.execute(f"SELECT {COLUMNS} FROM key_frames WHERE id = ?", [row]).fetchone()
    return key_frame_of(found) if found else None


def hours_of(connection: sqlite3.Connection, scope: Scope) -> list[ArchivedHour]:
    """The hours with key frames in scope, ordered by time and camera."""
    where, values = condition(scope)
    rows = connection.execute(
        f"SELECT stamp_ns / {HOUR_NS}, camera, count(*), sum(bytes) FROM key_frames WHERE {where} "
        "GROUP BY 1, 2 ORDER BY 1, 2",
        values,
    ).fetchall()
    return [ArchivedHour(int(hour) * HOUR_NS, str(camera), int(count), int(size)) for hour, camera, count, size in rows]


def newest_ns(connection: sqlite3.Connection) -> int:
    """The latest stamp; 0 without key frames."""
    return int(connection.execute("SELECT coalesce(max(last_ns), 0) FROM key_frames").fetchone()[0])


def condition(scope: Scope) -> tuple[str, list[object]]:
    """An SQL condition for the key frames that were seen at any moment of the scope, and its values."""
    parts: list[str] = ["last_ns >= ?"]
    values: list[object] = [scope.since_ns]
    if scope.until_ns:
        parts.append("first_ns <= ?")
        values.append(scope.until_ns)
    if scope.cameras:
        parts.append(f"camera IN ({', '.join('?' * len(scope.cameras))})")
        values += scope.cameras
    if scope.near is not None:
        near = scope.near
        parts.append("pose_frame = ? AND pose_map = ? AND (x - ?) * (x - ?) + (y - ?) * (y - ?) <= ?")
        values += [near.frame_id, near.map_id, near.x, near.x, near.y, near.y, near.radius**2]
    return " AND ".join(parts), values


def bytes_on_disk(path: Path) -> int:
    """Bytes of the database and its write-ahead log."""
    return sum(file.stat().st_size for file in database_files(path) if file.exists())


def pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _connected(name: str, timeout_s: float, uri: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(name, timeout=timeout_s, isolation_level=None, uri=uri)
    connection.text_factory = lambda raw: raw.decode(errors="replace")
    return connection


def _is_empty(connection: sqlite3.Connection) -> bool:
    return not pragma(connection, "user_version") and not connection.execute("SELECT 1 FROM sqlite_master").fetchone()


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if pragma(connection, "auto_vacuum") != 2:  # a node was killed while it created the file
        connection.execute("VACUUM")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Raises ArchiveError for another version, DamagedArchive for other tables."""
    version = pragma(connection, "user_version")
    if version != VERSION:
        raise ArchiveError(
            f"{path} is of version {version}, this package reads version {VERSION}: nothing is archived; move the file "
            "away, or use the package that wrote it"
        )
    found = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE name LIKE 'key_frames%'")}
    if found != set(SCHEMA):
        raise DamagedArchive(f"{path} is damaged: it has other tables than an archive")


def _quoted(path: Path) -> str:
    return str(path.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
