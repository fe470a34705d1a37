"""Restart: what the engine saves is what the next one answers from, and what was forgotten never comes back."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_engine import CONFIG, SECOND, ask, entries, model, running, wait_until, watch

from flash_vstream_ros.engine.answering.question import Answer, ErrorCode
from flash_vstream_ros.engine.archive.archive_config import ArchiveConfig
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.ingest.stamps import JumpBack
from flash_vstream_ros.engine.reports import summary_state
from flash_vstream_ros.engine.reports.summary import Level, Summary
from flash_vstream_ros.engine.restart import snapshots
from flash_vstream_ros.engine.restart.snapshots import CannotSave
from flash_vstream_ros.memory.memory_file import read_memory
from flash_vstream_ros.memory.scope import EVERYTHING, Scope
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model

__all__ = ["model"]  # a fixture


@contextmanager
def engine_in(folder: Path, model: VisionLanguageModel, **changes: object) -> Iterator[tuple[Engine, list[str]]]:
    archive = ArchiveConfig(str(folder), 3600.0)
    config: EngineConfig = replace(CONFIG, **{"archive": archive, **changes})  # type: ignore[arg-type]
    with running(config, lambda: model) as (engine, warnings):
        yield engine, warnings


def file_in(folder: Path) -> Path:
    return folder / "memory.safetensors"


def saved(engine: Engine) -> int:
    return engine.submit(MemoryCommands.save).result(30.0).result(30.0)


def forget(engine: Engine, scope: Scope) -> None:
    forgotten = engine.submit(lambda commands: (commands.forget(scope), commands.erase_from_disk(scope)))
    snapshot = forgotten.result(30.0)[1].snapshot
    assert snapshot is not None
    snapshot.result(30.0)


def comparable(answer: Answer) -> tuple[object, ...]:
    """All but the relevance of evidence, which rounding may change with what the prefix cache held."""
    shown = [one.entry for one in answer.evidence]
    return answer.text, shown, answer.cameras, answer.covered_since_ns, answer.covered_until_ns


def test_the_memory_survives_a_restart_with_the_same_answers(model: VisionLanguageModel, tmp_path: Path) -> None:
    with engine_in(tmp_path, model) as (engine, _):
        watch(engine, range(1, 30))
        before, listed = ask(engine), entries(engine)
        assert engine.status().snapshots.saved == 0
    with engine_in(tmp_path, model) as (engine, warnings):
        assert comparable(ask(engine)) == comparable(before)
        assert entries(engine) == listed
        assert engine.status().snapshots.restored_slots == engine.status().memory.slots > 0
        watch(engine, range(30, 50))
        assert ask(engine).covered_until_ns == 49 * SECOND
        assert ask(engine).covered_since_ns == before.covered_since_ns
        assert not warnings


def test_nothing_is_written_without_a_path(model: VisionLanguageModel, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    with running(CONFIG, lambda: model) as (engine, _):
        watch(engine, range(1, 9))
        with pytest.raises(CannotSave, match=r"set archive\.path"):
            saved(engine)
        with pytest.raises(CannotSave, match=r"set archive\.path"):
            engine.submit(MemoryCommands.load).result(30.0)
        assert engine.submit(lambda commands: commands.erase_from_disk(EVERYTHING)).result(30.0) == (None, None)
    assert not [*tmp_path.iterdir()]


def test_changes_are_saved_within_the_period_and_not_again_without_any(
    model: VisionLanguageModel, tmp_path: Path
) -> None:
    with engine_in(tmp_path, model, archive=ArchiveConfig(str(tmp_path), 0.05)) as (engine, _):
        watch(engine, range(1, 9))
        wait_until(lambda: engine.status().snapshots.saved > 0 and _slots_in(file_in(tmp_path)) == 4)

        def is_done() -> bool:
            count = engine.status().snapshots.saved
            time.sleep(0.5)
            return engine.status().snapshots.saved == count

        wait_until(is_done)
        assert engine.status().snapshots.saved <= 5  # at most one for each change, and one for those between two
        assert engine.status().snapshots.bytes == file_in(tmp_path).stat().st_size


def test_what_changes_while_a_file_is_written_is_saved_too(
    model: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, is_writing, released = snapshots.write_memory, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> int:
        is_writing.set()
        assert released.wait(60.0)
        return write(*arguments)

    monkeypatch.setattr(snapshots, "write_memory", slow)
    with engine_in(tmp_path, model, archive=ArchiveConfig(str(tmp_path), 0.05)) as (engine, _):
        watch(engine, range(1, 3))
        assert is_writing.wait(60.0)
        watch(engine, range(3, 5))
        wait_until(lambda: not engine._wake.is_set())  # the worker waits for work
        released.set()
        wait_until(lambda: engine.status().snapshots.saved == 2)
        assert _slots_in(file_in(tmp_path)) == 2


def _slots_in(path: Path) -> int:
    return int(read_memory(path)[0].values["memory"]["slots_seen"])


def test_what_was_forgotten_is_gone_from_the_disk_when_the_command_ends(
    model: VisionLanguageModel, tmp_path: Path
) -> None:
    with engine_in(tmp_path, model) as (engine, _):
        watch(engine, range(1, 13))
        saved(engine)
        with file_in(tmp_path).open("rb") as held:
            forget(engine, Scope(since_ns=7 * SECOND))
            assert not held.read().strip(b"\0")
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        shutil.copy(file_in(tmp_path), crashed)
    with engine_in(crashed, model) as (engine, _):
        assert entries(engine)
        assert max(entry.last_ns for entry in entries(engine)) < 7 * SECOND


def test_a_reset_empties_the_file(model: VisionLanguageModel, tmp_path: Path) -> None:
    with engine_in(tmp_path, model) as (engine, _):
        watch(engine, range(1, 13))
        saved(engine)
        reset = engine.submit(lambda commands: (commands.reset(), commands.erase_from_disk(EVERYTHING)))
        reset.result(30.0)[1].snapshot.result(30.0)  # type: ignore[union-attr]
        assert _slots_in(file_in(tmp_path)) == 0


def test_load_returns_to_what_was_saved_and_goes_on(model: VisionLanguageModel, tmp_path: Path) -> None:
    with engine_in(tmp_path, model) as (engine, _):
        watch(engine, range(1, 13))
        before = ask(engine)
        saved(engine)
        watch(engine, range(13, 31))
        assert "restored a memory of 6 slots" in engine.submit(MemoryCommands.load).result(30.0)
        assert comparable(ask(engine)) == comparable(before)
        watch(engine, range(31, 41))
        assert ask(engine).covered_until_ns == 40 * SECOND
        assert engine.status().memory.slots == 11


def test_a_memory_of_another_model_is_kept_aside_and_the_reason_given(
    model: VisionLanguageModel, tmp_path: Path
) -> None:
    other = load_model("tiny-random", device="cpu", max_pixels=112 * 112)
    weight = other.network.model.visual.blocks[0].attn.qkv.weight  # type: ignore[attr-defined]
    weight.data += 1.0
    with engine_in(tmp_path, other) as (engine, _):
        watch(engine, range(1, 9))
    raw = file_in(tmp_path).read_bytes()
    with engine_in(tmp_path, model) as (engine, warnings):
        assert ask(engine).error_code is ErrorCode.NO_FRAMES
        assert any("was made with weights" in sentence for sentence in warnings)
        assert engine.status().snapshots.failed == 1
        assert (tmp_path / "unusable.safetensors").read_bytes() == raw
        watch(engine, range(1, 9))
        forget(engine, Scope(until_ns=2 * SECOND))
        assert not (tmp_path / "unusable.safetensors").exists()


@pytest.mark.parametrize("change", [{"policy": "recent"}, {}], ids=["another policy", "damaged"])
def test_a_file_that_does_not_fit_is_said_and_counted(
    change: dict[str, object], model: VisionLanguageModel, tmp_path: Path
) -> None:
    with engine_in(tmp_path, model, **change) as (engine, _):
        watch(engine, range(1, 9))
    if not change:
        raw = bytearray(file_in(tmp_path).read_bytes())
        raw[len(raw) // 2] ^= 1
        file_in(tmp_path).write_bytes(raw)
    with engine_in(tmp_path, model) as (engine, warnings):
        assert len(warnings) == 1
        assert ("policy 'recent'" if change else "damaged") in warnings[0]
        watch(engine, range(1, 9))
        assert ask(engine).error_code is ErrorCode.NONE
        assert saved(engine) > 0


def test_other_sizes_are_adopted(model: VisionLanguageModel, tmp_path: Path) -> None:
    with engine_in(tmp_path, model) as (engine, _):
        watch(engine, range(1, 30))
    with engine_in(tmp_path, model, memory=replace(CONFIG.memory, csm_slots=4, dam_slots=2)) as (engine, warnings):
        assert engine.status().memory.entries == 6
        assert ask(engine).covered_since_ns == SECOND
        assert not warnings


def test_a_second_node_on_the_same_folder_writes_nothing(model: VisionLanguageModel, tmp_path: Path) -> None:
    with engine_in(tmp_path, model) as (engine, _):
        watch(engine, range(1, 9))
        saved(engine)
        raw = file_in(tmp_path).read_bytes()
        with engine_in(tmp_path, model) as (second, warnings):
            assert any("in use by another node" in sentence for sentence in warnings)
            watch(second, range(1, 5))
            assert ask(second).error_code is ErrorCode.NONE
            with pytest.raises(CannotSave, match="in use by another node"):
                saved(second)
        assert file_in(tmp_path).read_bytes() == raw
    with engine_in(tmp_path, model) as (engine, _):
        assert engine.status().snapshots.restored_slots == 4


READ_ONLY = Path("/sys")  # where nobody can create a file, not even root
SUMMARY = Summary(Level.PERIOD, SECOND, 2 * SECOND, "a red ball", ("camera",), 2, 0.5)


def redirect(link: Path, folder: Path) -> None:
    """Let `link` lead to another folder."""
    link.unlink(missing_ok=True)
    link.symlink_to(folder)


@pytest.mark.parametrize("trouble", ["full", "removed", "a file", "read-only", "read-only later"])
def test_a_disk_in_trouble_costs_a_message_and_a_count_only(
    trouble: str, model: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "archive"
    if trouble == "a file":
        folder.write_text("not a folder")
    if trouble == "read-only":
        folder = READ_ONLY / "flash_vstream"
    if trouble == "read-only later":
        (tmp_path / "writable").mkdir()
        redirect(folder, tmp_path / "writable")
    with engine_in(folder, model) as (engine, warnings):
        watch(engine, range(1, 9))
        engine.summaries.add(SUMMARY, engine.summaries.generation)
        if trouble == "read-only later":
            redirect(folder, READ_ONLY)
        if trouble == "full":

            def full(descriptor: int) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            monkeypatch.setattr(os, "fsync", full)
        if trouble == "removed":
            shutil.rmtree(folder)
        with pytest.raises(CannotSave):
            saved(engine)
        assert engine.status().snapshots.failed == 1
        assert engine.status().snapshots.problem == warnings[-1]
        watch(engine, range(9, 13))
        assert ask(engine).covered_until_ns == 12 * SECOND
        assert engine.summaries.all == (SUMMARY,)
        monkeypatch.undo()
        if trouble == "read-only later":
            redirect(folder, tmp_path / "writable")
        if trouble in ("full", "read-only later"):
            assert saved(engine) > 0
            assert engine.status().snapshots.problem == ""
            assert summary_state.summaries_of(read_memory(file_in(folder))[0]) == [SUMMARY]


def test_a_forgetting_that_cannot_be_written_deletes_the_file(
    model: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine_in(tmp_path, model) as (engine, _):
        watch(engine, range(1, 13))
        saved(engine)
        monkeypatch.setattr("flash_vstream_ros.memory.memory_file.save", _raise(OSError(errno.ENOSPC, "full")))
        with pytest.raises(CannotSave, match="which held what was forgotten, is deleted"):
            forget(engine, Scope(since_ns=7 * SECOND))
        assert not file_in(tmp_path).exists()
        monkeypatch.undo()
    assert _slots_in(file_in(tmp_path)) == 6  # saved again when the engine stopped


def _raise(error: Exception) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


@pytest.mark.parametrize("policy", [JumpBack.FORK, JumpBack.RESET, JumpBack.IGNORE])
def test_a_clock_set_back_over_a_restart_is_a_jump_back(
    policy: JumpBack, model: VisionLanguageModel, tmp_path: Path
) -> None:
    with engine_in(tmp_path, model, on_jump_back=policy) as (engine, _):
        watch(engine, range(101, 121))
    with engine_in(tmp_path, model, on_jump_back=policy) as (engine, warnings):
        watch(engine, range(1, 21))
        assert any("stamps jumped back" in sentence for sentence in warnings)
        since_ns = ask(engine).covered_since_ns
        assert (since_ns > 100 * SECOND) == (policy is JumpBack.IGNORE)
        stamps = {entry.last_ns > 100 * SECOND for entry in entries(engine)}
        assert stamps == {JumpBack.FORK: {True, False}, JumpBack.RESET: {False}, JumpBack.IGNORE: {True}}[policy]
