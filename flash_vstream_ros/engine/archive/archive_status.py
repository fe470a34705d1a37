"""Status of the archive: counts, and the problem with the file, if there is one."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ArchiveStatus:
    """State of the archive, for any thread. Counts begin with the engine."""

    path: str = ""  # of the folder; "" while nothing is archived
    key_frames: int = 0  # in the file
    bytes: int = 0  # of the database and its log on the disk
    max_bytes: int = 0
    written: int = 0  # key frames
    thinned: int = 0  # deleted to stay within the bounds
    dropped: int = 0  # the queue was full
    failed: int = 0  # lost to a problem with the disk or the image
    problems: int = 0  # times that the file could not be used
    clock_set_back: int = 0  # times that a camera's stamps went back
    problem: str = ""  # why the last write failed; "" if it succeeded


class StatusBoard:
    """The newest status. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._status = ArchiveStatus()

    @property
    def status(self) -> ArchiveStatus:
        with self._lock:
            return self._status

    def note(
        self,
        written: int = 0,
        thinned: int = 0,
        dropped: int = 0,
        failed: int = 0,
        problems: int = 0,
        clock_set_back: int = 0,
        **changes: object,
    ) -> None:
        """Update the status: add the counts, and replace the fields in `changes`."""
        with self._lock:
            status = self._status
            self._status = replace(
                status,
                written=status.written + written,
                thinned=status.thinned + thinned,
                dropped=status.dropped + dropped,
                failed=status.failed + failed,
                problems=status.problems + problems,
                clock_set_back=status.clock_set_back + clock_set_back,
                **changes,  # type: ignore[arg-type]
            )
