"""An engine that rebuilds its memory from an archive, for tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE
from tiny_engine import CONFIG, SECOND, Halting, frame, running, wait_until, watch

from flash_vstream_ros.engine.archive.archive_config import ArchiveConfig
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.state import MemoryState
from flash_vstream_ros.models.interface import VisionLanguageModel

EARLY = Scope(since_ns=4 * SECOND, until_ns=13 * SECOND)
CAPACITY = CONFIG.memory.csm_slots + CONFIG.memory.dam_slots  # key frames that are used
ARCHIVED = 30  # key frames of the folder


@contextmanager
def engine_in(folder: Path, load: Callable[[], Any], **changes: object) -> Iterator[tuple[Engine, list[str]]]:
    """An engine that archives, and answers from its memory only."""
    archive = ArchiveConfig(str(folder), 3600.0, 0.1, question_slots=0)
    with running(replace(CONFIG, **{"archive": archive, **changes}), load) as (engine, warnings):  # type: ignore[arg-type]
        yield engine, warnings


@pytest.fixture(scope="module")
def seen(model: VisionLanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an engine that has seen 30 slots with another policy."""
    folder = tmp_path_factory.mktemp("seen")
    with engine_in(folder, lambda: model, policy="recent") as (engine, _):
        watch(engine, range(1, 2 * ARCHIVED + 1))
        wait_until(lambda: engine.status().archive.written == ARCHIVED)
        worker = engine._worker
    assert worker is not None
    assert worker.archive.close(PATIENCE), "the disk is slow: files may still change while a test copies them"
    wait_until((folder / "memory.safetensors").exists, PATIENCE)
    return folder


@pytest.fixture
def folder(seen: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(seen, tmp_path / "folder"))


def rebuilt(engine: Engine) -> str:
    """Wait for the end of the rebuild. Returns the sentence about it."""
    wait_until(lambda: not engine.status().memory_start.under_way)
    engine.submit(lambda _: None).result(30.0)
    return engine.status().memory_start.sentence


def halted(model: VisionLanguageModel) -> Halting:
    """The real model, which stops at the first key frame."""
    halting = Halting(model)
    halting.armed = True
    return halting


def deactivate_after_one(engine: Engine, halting: Halting) -> None:
    """Deactivate the engine while the first key frame is encoded."""
    assert halting.halted.wait(60.0)
    engine.deactivate()
    halting.released.set()
    wait_until(lambda: engine.status().memory_start.done == 1)


def state_of(engine: Engine) -> MemoryState:
    return engine.submit(lambda commands: commands._memory.state()).result(30.0)


def holds(engine: Engine, scope: Scope) -> bool:
    """Returns True if the memory holds anything in `scope`, in the mean of a cluster, too."""
    return engine.submit(lambda commands: commands._memory.may_contain(scope)).result(30.0)


def offer_decoded(engine: Engine, size: tuple[int, int]) -> None:
    """Offer the two frames of a slot, and wait until they are decoded."""
    for number in (61, 62):
        engine.offer(frame(number, size=size))
    worker = engine._worker
    assert worker is not None
    wait_until(lambda: worker.ingest.prefetch.full)
    worker.ingest.prefetch.submit(lambda: None).result(30.0)
