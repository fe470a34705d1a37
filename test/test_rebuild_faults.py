"""What is forgotten or damaged is not rebuilt, and a rebuild that fails leaves live frames alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from archive_writer import erase_in
from rebuilding_engine import (
    ARCHIVED,
    CAPACITY,
    EARLY,
    deactivate_after_one,
    engine_in,
    folder,
    halted,
    holds,
    offer_decoded,
    rebuilt,
    seen,
)
from tiny_engine import SECOND, ask, entries, model, settled, wait_until, watch

from flash_vstream_ros.engine.answering.question import ErrorCode
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.ingest.stamps import JumpBack
from flash_vstream_ros.engine.restart.snapshots import CannotSave
from flash_vstream_ros.memory.scope import EVERYTHING, Scope
from flash_vstream_ros.models.interface import VisionLanguageModel

__all__ = ["folder", "model", "seen"]  # fixtures


def test_what_was_forgotten_before_is_not_rebuilt(model: VisionLanguageModel, folder: Path) -> None:
    assert erase_in(folder, EARLY) == 6
    with engine_in(folder, lambda: model) as (engine, _):
        assert f"of {ARCHIVED - 6} archived key frames" in rebuilt(engine)
        assert not holds(engine, EARLY)
        assert ask(engine, scope=EARLY).error_code is ErrorCode.NO_FRAMES


@pytest.mark.parametrize("scope", [EARLY, Scope(since_ns=60 * SECOND)], ids=["key frames", "live frames"])
def test_what_is_forgotten_during_a_rebuild_stays_forgotten(
    scope: Scope, model: VisionLanguageModel, folder: Path
) -> None:
    halting = halted(model)
    with engine_in(folder, lambda: halting) as (engine, _):
        deactivate_after_one(engine, halting)
        watch(engine, range(61, 65))
        recorded = engine.submit(lambda commands: [live.slot for live in commands._rebuild._work.live]).result(30.0)  # type: ignore[union-attr]
        assert len(recorded) == 2
        halting.on_encode = engine.deactivate
        engine.activate()
        wait_until(lambda: engine.status().memory_start.done == 2)
        halting.on_encode = lambda: None
        done = engine.submit(lambda commands: (commands.forget(scope), commands.erase_from_disk(scope))).result(30.0)[1]
        assert done.snapshot is not None
        assert done.archive is not None
        assert done.snapshot.result(30.0) == 0
        assert done.archive.result(30.0) > 0
        assert not (folder / "unusable.safetensors").exists()
        assert not (folder / "memory.safetensors").exists()
        assert bool(recorded[0].low.any()) == (scope is EARLY)
        engine.activate()
        rebuilt(engine)
        assert not holds(engine, scope)
        newest = max(one.last_ns for one in entries(engine))
        assert newest == 64 * SECOND if scope is EARLY else newest < 60 * SECOND


def test_a_reset_ends_a_rebuild(model: VisionLanguageModel, folder: Path) -> None:
    halting = halted(model)
    with engine_in(folder, lambda: halting) as (engine, _):
        assert halting.halted.wait(60.0)
        saving = engine.submit(MemoryCommands.save)
        reset = engine.submit(lambda commands: (commands.reset(), commands.erase_from_disk(EVERYTHING)))
        halting.released.set()
        with pytest.raises(CannotSave, match="is being rebuilt from the archive"):
            saving.result(30.0).result(30.0)
        reset.result(30.0)[1].archive.result(30.0)  # type: ignore[union-attr]
        assert "the memory was reset" in rebuilt(engine)
        assert halting.slots == 1
        assert not entries(engine)
        watch(engine, range(1, 5))
        assert engine.status().memory.slots == 2


def test_a_damaged_archive_is_the_reason_for_an_empty_memory(model: VisionLanguageModel, folder: Path) -> None:
    file = folder / "archive.sqlite"
    file.write_bytes(b"not a database".ljust(len(file.read_bytes()), b"."))
    with engine_in(folder, lambda: model) as (engine, _):
        sentence = engine.status().memory_start.sentence
        assert sentence.startswith("the memory begins empty: ")
        assert "policy 'recent'" in sentence
        assert "file is not a database; it is kept as" in sentence
        watch(engine, range(61, 65))
        assert ask(engine).error_code is ErrorCode.NONE


def test_a_damaged_key_frame_is_left_out(model: VisionLanguageModel, folder: Path) -> None:
    halting = halted(model)
    with engine_in(folder, lambda: halting) as (engine, warnings):
        deactivate_after_one(engine, halting)

        def damage(commands: MemoryCommands) -> None:
            work = commands._rebuild._work
            assert work is not None
            work.remaining[0] = replace(work.remaining[0], jpeg=b"no image")

        engine.submit(damage).result(30.0)
        engine.activate()
        assert f"rebuilt from {CAPACITY - 1} of" in rebuilt(engine)
        assert engine.status().memory_start.left_out == 1
        assert any("is left out of the memory: its image is damaged" in sentence for sentence in warnings)


def test_a_device_without_memory_ends_the_rebuild_only(model: VisionLanguageModel, folder: Path) -> None:
    halting = halted(model)
    halting.released.set()

    def fail() -> None:
        halting.armed = False
        raise torch.OutOfMemoryError("no room")

    halting.on_encode = fail
    with engine_in(folder, lambda: halting) as (engine, _):
        assert "the device ran out of memory: no room" in rebuilt(engine)
        watch(engine, range(61, 65))
        assert ask(engine).covered_since_ns == 61 * SECOND


@pytest.mark.parametrize("policy", [JumpBack.FORK, JumpBack.RESET])
def test_a_clock_set_back_before_a_rebuild_is_a_jump_back(
    policy: JumpBack, model: VisionLanguageModel, folder: Path
) -> None:
    halting = halted(model)
    with engine_in(folder, lambda: halting, on_jump_back=policy) as (engine, warnings):
        deactivate_after_one(engine, halting)
        watch(engine, range(1, 21))
        engine.activate()
        rebuilt(engine)
        assert any("stamps jumped back" in sentence for sentence in warnings)
        assert not any("is left out" in sentence for sentence in warnings)
        held = entries(engine)
        assert any(one.last_ns == 20 * SECOND for one in held)
        assert any(one.last_ns > 50 * SECOND for one in held) == (policy is JumpBack.FORK)
        wait_until(lambda: settled(engine))


def test_the_patch_grid_is_that_of_live_frames(model: VisionLanguageModel, folder: Path) -> None:
    """The key frames have another aspect ratio; some of them are encoded before the first live frame arrives."""
    halting = halted(model)
    with engine_in(folder, lambda: halting) as (engine, _):
        assert halting.halted.wait(60.0)
        offer_decoded(engine, (60, 240))
        halting.released.set()
        assert f"rebuilt from {CAPACITY} of" in rebuilt(engine)
        grid = engine.submit(lambda commands: commands._memory.grid).result(30.0)
        assert grid == model.grid(60, 240) != model.grid(120, 160)
        assert engine.status().memory.slots == CAPACITY + 1
