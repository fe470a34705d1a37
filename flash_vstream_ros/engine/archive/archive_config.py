"""Settings of the archive: its folder, the period of snapshots, and the bounds of key frames."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ArchiveConfig:
    """Settings of the archive's folder."""

    path: str = ""  # folder; "": nothing is written
    snapshot_s: float = 30.0  # longest time between a change of the memory and its snapshot [s]
    max_gib: float = 0.0  # size of the archive's files on the disk; 0: no key frames are archived
    max_days: float = 30.0  # age at which a key frame is deleted, in message time
    question_slots: int = 32  # key frames from which a question about an interval is answered; 0: never
    search_slots: int = 256  # key frames of a search of the archive; 0: the archive cannot be searched as a whole

    @property
    def max_bytes(self) -> int:
        return int(self.max_gib * 2**30)
