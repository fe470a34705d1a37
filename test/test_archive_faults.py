"""The archive under problems: with the disk, the file, another node, and a kill at any moment."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
from archive_writer import Writer, engine_in, erase, frames_in, writer
from killed_process import output_until_killed
from tiny_engine import SECOND, ask, model, wait_until, watch

from flash_vstream_ros.engine.answering.question import ErrorCode
from flash_vstream_ros.engine.archive import archive
from flash_vstream_ros.engine.archive.archive_folder import ArchiveFolder
from flash_vstream_ros.engine.archive.database import ArchiveError, read_key_frames, reading
from flash_vstream_ros.engine.archive.key_frame import KeyFrame, SlotFrame
from flash_vstream_ros.engine.archive.key_frame_queue import MAX_FRAMES, KeyFrameQueue
from flash_vstream_ros.memory.scope import EVERYTHING, Scope
from flash_vstream_ros.models.interface import VisionLanguageModel

__all__ = ["model", "writer"]  # fixtures


def test_another_version_is_refused_and_the_memory_unharmed(model: VisionLanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 7")
    other.execute("CREATE TABLE moments (id)")
    other.commit()
    other.close()
    raw = path.read_bytes()
    with engine_in(tmp_path, model) as (engine, warnings):
        watch(engine, range(1, 9))
        wait_until(lambda: engine.status().archive.failed > 0)
        assert "is of version 7, this package reads version 2" in engine.status().archive.problem
        assert any("is of version 7" in sentence for sentence in warnings)
        assert ask(engine).error_code is ErrorCode.NONE
        forgotten = engine.submit(
            lambda c: (c.forget(Scope(since_ns=SECOND)), c.erase_from_disk(Scope(since_ns=SECOND)))
        )
        with pytest.raises(ArchiveError, match="is of version 7"):
            forgotten.result(30.0)[1].archive.result(30.0)  # type: ignore[union-attr]
    assert path.read_bytes() == raw


def test_a_second_node_archives_nothing(model: VisionLanguageModel, tmp_path: Path) -> None:
    with engine_in(tmp_path, model) as (first, _), engine_in(tmp_path, model) as (second, warnings):
        watch(second, range(1, 9))
        assert any("nothing is archived" in sentence and "in use by another node" in sentence for sentence in warnings)
        assert second.status().archive.problems == 1
        watch(first, range(1, 5))
        wait_until(lambda: first.status().archive.written == 2)
    assert len(frames_in(tmp_path)) == 2


def test_in_a_read_only_folder_nothing_is_archived() -> None:
    writer = Writer(Path("/sys/flash_vstream"))
    assert not writer.archive.enabled
    assert writer.archive.status.problems == 1
    assert writer.warnings == [writer.archive.status.problem]
    assert "nothing is archived: " in writer.warnings[0]
    writer.insert(1)
    assert writer.archive.erase(EVERYTHING) is None
    writer.close()


@pytest.mark.parametrize("trouble", ["full", "removed", "not a folder", "read-only"])
def test_the_archive_goes_on_after_a_problem_with_the_disk(trouble: str, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    writer = Writer(folder)
    archive = writer.archive
    writer.insert(1)
    writer.settle(1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if trouble == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    elif trouble == "read-only":
        folder.rename(tmp_path / "writable")
        folder.symlink_to("/sys")  # where nobody can create a file, not even root
    else:
        shutil.rmtree(folder)
    if trouble == "not a folder":
        folder.write_text("")
    try:
        writer.insert(2)
        wait_until(lambda: archive.status.failed > 0)
        wait_until(lambda: bool(writer.warnings) and writer.warnings[-1] == archive.status.problem != "")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    if trouble in ("not a folder", "read-only"):
        folder.unlink()
    if trouble == "read-only":
        (tmp_path / "writable").rename(folder)
    folder.mkdir(exist_ok=True)
    number = 2
    while archive.status.written < 2:  # one that comes too early is lost
        number += 1
        lost = archive.status.failed
        writer.insert(number)
        wait_until(lambda lost=lost: archive.status.written == 2 or archive.status.failed > lost)
    assert archive.status.problem == ""
    assert "in use" in ArchiveFolder(str(folder)).problem  # it is held again
    writer.close()
    assert frames_in(folder)


def test_what_could_not_be_erased_is_said_and_erased_later(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    for number in range(1, 9):
        writer.insert(number)
    writer.settle(8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ArchiveError, match="what was forgotten is still archived"):
            erase(writer.archive, Scope(since_ns=5 * SECOND))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    wait_until(lambda: len(frames_in(tmp_path)) == 4)
    writer.close()


def test_the_queue_is_bounded_and_what_does_not_fit_is_counted(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, is_busy, is_released = KeyFrame.of, threading.Event(), threading.Event()

    def slow(frame: SlotFrame) -> KeyFrame:
        is_busy.set()
        assert is_released.wait(60.0)
        return encode(frame)

    monkeypatch.setattr(KeyFrame, "of", slow)
    writer.insert(1)
    assert is_busy.wait(60.0)
    for number in range(2, 2 + MAX_FRAMES + 5):
        writer.insert(number)
    assert writer.archive.status.dropped == 5
    assert any("queue is full" in sentence for sentence in writer.warnings)
    is_released.set()
    writer.settle(1 + MAX_FRAMES)
    assert len(frames_in(tmp_path)) == 1 + MAX_FRAMES


def test_the_queue_is_bounded_in_bytes_too() -> None:
    queue, large = KeyFrameQueue(), np.broadcast_to(np.uint8(0), (4000, 4000, 3))
    pushed = [queue.push(SlotFrame("camera", "", n, n + 1, 0.5, None, large)) for n in range(3)]
    assert pushed == [True, False, False]
    queue.take(0.0)
    assert queue.push(SlotFrame("camera", "", 9, 10, 0.5, None, large))


def test_flipped_bytes_neither_stop_the_archive_nor_are_taken_for_images(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "whole")
    for number in range(1, 25):
        writer.insert(number)
    writer.close()
    whole = {frame.stamp_ns: frame.jpeg for frame in frames_in(tmp_path / "whole")}
    raw = (tmp_path / "whole" / "archive.sqlite").read_bytes()
    positions = int(os.environ.get("FLASH_VSTREAM_FLIPS", "12"))
    draw = np.random.default_rng(positions)
    for place in [*draw.integers(0, 100, positions // 3), *draw.integers(0, len(raw), positions)]:
        folder = tmp_path / "flipped"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        damaged = bytearray(raw)
        damaged[place] ^= int(draw.integers(1, 256))
        (folder / "archive.sqlite").write_bytes(damaged)
        try:
            with reading(folder / "archive.sqlite") as connection:
                for frame in read_key_frames(connection, EVERYTHING):
                    assert frame is None or whole[frame.stamp_ns] == frame.jpeg
        except ArchiveError:
            pass
        writer = Writer(folder)
        writer.insert(100)
        writer.insert(102)
        wait_until(lambda w=writer: w.archive.status.written + w.archive.status.failed >= 2)
        assert writer.archive._thread.is_alive(), place
        with_error: BaseException | None = None
        try:
            erase(writer.archive, Scope(since_ns=5 * SECOND, until_ns=6 * SECOND))
        except ArchiveError as error:
            with_error = error
        assert with_error is None or "version" in str(with_error) or writer.warnings, place
        writer.close()


def write_for_ever(folder: Path, number: int) -> None:
    """Archive key frames, forget every 13th, and print what was done."""
    archive.COMMIT_S = 0.005
    writer = Writer(folder)
    print("ready", flush=True)
    while True:
        number += 1
        before = writer.archive.status.written
        writer.insert(number)
        writer.settle(before + 1)
        print("written", number, "end", flush=True)
        if number % 13 == 0:
            erase(writer.archive, Scope(since_ns=(number - 1) * SECOND, until_ns=(number - 1) * SECOND + 1))
            print("forgot", number - 1, "end", flush=True)


@pytest.mark.slow
@pytest.mark.timeout(0)  # FLASH_VSTREAM_KILLS rounds
def test_a_node_killed_at_random_moments_loses_nothing_written_and_shows_nothing_forgotten(tmp_path: Path) -> None:
    rounds = int(os.environ.get("FLASH_VSTREAM_KILLS", "3"))
    draw = np.random.default_rng(rounds)
    folder = tmp_path / "archive"
    written: set[int] = set()
    forgotten: set[int] = set()
    first = 0
    for round_ in range(rounds):
        arguments, after_s = (folder, first), float(draw.uniform(0.0, 0.5))
        output = output_until_killed(write_for_ever, arguments, tmp_path / f"output{round_}", after_s)
        for word, *numbers in map(str.split, output.splitlines()):
            if numbers and numbers[-1] == "end":  # not cut by the kill
                (written if word == "written" else forgotten).add(int(numbers[0]))
        connection = sqlite3.connect(folder / "archive.sqlite")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        found = {frame.stamp_ns // SECOND for frame in frames_in(folder)} if written else set()
        assert not found & forgotten
        asked = {number for number in written | found if number % 13 in (0, 12)}  # perhaps forgotten when it was killed
        assert written - asked <= found
        first = max(written | found, default=0) + 20
    assert written


def test_the_worker_does_not_wait_for_the_archive(writer: Writer) -> None:
    """The archive's lock is never held while the disk is waited for."""
    blocked = threading.Event()
    writer.insert(1)
    writer.settle(1)
    blocking = sqlite3.connect(writer.folder.database, isolation_level=None)
    blocking.execute("BEGIN IMMEDIATE")
    writer.insert(2)
    thread = threading.Thread(target=lambda: (writer.insert(3), writer.archive.status, blocked.set()))
    thread.start()
    assert blocked.wait(30.0)
    blocking.execute("ROLLBACK")
    blocking.close()
    thread.join()
