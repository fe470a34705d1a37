"""Where and how often the memory is saved."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ArchiveConfig:
    """`path` is a folder; "": nothing is written."""

    path: str = ""
    snapshot_s: float = 30.0  # longest time between a change of the memory and its snapshot [s]
