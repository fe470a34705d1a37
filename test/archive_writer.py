"""An archive without an engine, an engine with one, and readers of its file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_engine import CONFIG, SECOND, image, running, wait_until

from flash_vstream_ros.engine.archive.archive import Archive
from flash_vstream_ros.engine.archive.archive_config import ArchiveConfig
from flash_vstream_ros.engine.archive.archive_folder import ArchiveFolder
from flash_vstream_ros.engine.archive.database import read_key_frames, reading
from flash_vstream_ros.engine.archive.key_frame import KeyFrame
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.scope import EVERYTHING, Scope
from flash_vstream_ros.memory.slot import Grid, Slot
from flash_vstream_ros.models.interface import VisionLanguageModel

MIB = 2**-10  # GiB
NOTHING = np.zeros(0)


@contextmanager
def engine_in(folder: Path, model: VisionLanguageModel, max_gib: float = 0.1) -> Iterator[tuple[Engine, list[str]]]:
    config = replace(CONFIG, archive=ArchiveConfig(str(folder), 3600.0, max_gib))
    with running(config, lambda: model) as (engine, warnings):
        yield engine, warnings


class Writer:
    """An archive without an engine."""

    def __init__(self, folder: Path, config: ArchiveConfig | None = None) -> None:
        self.warnings: list[str] = []
        self.folder = ArchiveFolder(str(folder))
        self.archive = Archive(
            self.folder, config or ArchiveConfig(str(folder), max_gib=0.1), ThrottledLog(self.warnings.append, 0.0)
        )

    def insert(self, seconds: float, camera: str = "camera", novelty: float = 0.5, seed: int | None = None) -> None:
        stamp_ns = round(seconds * SECOND)
        slot = Slot(camera, "optical", stamp_ns - SECOND, stamp_ns, NOTHING, NOTHING, Grid(4, 4))  # type: ignore[arg-type]
        self.archive.insert(slot, image(round(seconds) if seed is None else seed, (48, 64)), novelty, 7)

    def settle(self, written: int) -> None:
        wait_until(lambda: self.archive.status.written >= written)

    def close(self) -> None:
        assert self.archive.close(30.0)
        self.folder.close()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    one = Writer(tmp_path)
    yield one
    one.close()


def frames_in(folder: Path, scope: Scope = EVERYTHING) -> list[KeyFrame]:
    with reading(folder / "archive.sqlite") as connection:
        frames = list(read_key_frames(connection, scope))
    assert None not in frames
    return [frame for frame in frames if frame]


def erase(archive: Archive, scope: Scope) -> int:
    erased = archive.erase(scope)
    assert erased is not None
    return erased.result(30.0)


def erase_in(folder: Path, scope: Scope) -> int:
    """Erase from the archive of an engine that has ended."""
    writer = Writer(folder)
    try:
        return erase(writer.archive, scope)
    finally:
        writer.close()
