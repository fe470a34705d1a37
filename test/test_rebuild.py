"""A memory that cannot be restored is rebuilt from archived key frames, while live frames go on."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from archive_writer import erase_in, frames_in
from tiny_engine import CONFIG, SECOND, Halting, ask, entries, frame, model, running, settled, wait_until, watch

from flash_vstream_ros.engine.answering.question import ErrorCode, Question
from flash_vstream_ros.engine.archive.archive_config import ArchiveConfig
from flash_vstream_ros.engine.archive.recall import KeyFrameReader, Sampled
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.hooks import EngineHooks
from flash_vstream_ros.engine.ingest.stamps import JumpBack
from flash_vstream_ros.engine.restart.snapshots import CannotSave
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.memory.scope import EVERYTHING, Scope
from flash_vstream_ros.memory.state import MemoryState
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model

__all__ = ["model"]  # a fixture

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
    return folder


@pytest.fixture
def folder(seen: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(seen, tmp_path / "folder"))


def rebuilt(engine: Engine) -> str:
    """Wait for the end of the rebuild. Returns the sentence about it."""
    wait_until(lambda: not engine.status().beginning.under_way)
    engine.submit(lambda _: None).result(30.0)
    return engine.status().beginning.sentence


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
    wait_until(lambda: engine.status().beginning.done == 1)


def state_of(engine: Engine) -> MemoryState:
    return engine.submit(lambda commands: commands._memory.state()).result(30.0)


def holds(engine: Engine, scope: Scope) -> bool:
    """Returns True if the memory holds anything in `scope`, in the mean of a cluster, too."""
    return engine.submit(lambda commands: commands._memory.may_contain(scope)).result(30.0)


def _damage(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def _other_format(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"flash_vstream_memory":"1"', b'"flash_vstream_memory":"9"'))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file: None, "policy 'recent', not 'flash'"),
        (_damage, "is damaged"),
        (_other_format, "is of format 9"),
        (Path.unlink, "there is no"),
    ],
    ids=["policy", "damaged", "format", "missing"],
)
def test_a_memory_that_does_not_fit_is_rebuilt_from_the_archive(
    spoil: Callable[[Path], None], reason: str, model: VisionLanguageModel, folder: Path
) -> None:
    spoil(folder / "memory.safetensors")
    with engine_in(folder, lambda: model) as (engine, warnings):
        sentence = rebuilt(engine)
        assert f"the memory was rebuilt from {CAPACITY} of {ARCHIVED} archived key frames" in sentence
        assert reason in sentence
        beginning = engine.status().beginning
        assert (beginning.done, beginning.key_frames, beginning.left_out) == (CAPACITY, CAPACITY, 0)
        answer = ask(engine, scope=EARLY)
        assert answer.error_code is ErrorCode.NONE, answer
        assert answer.adjustments == ()
        listed = entries(engine)
        archived = {(one.camera, one.frame_id, one.stamp_ns) for one in frames_in(folder)}
        assert {(one.camera, one.frame_id, one.thumbnail_ns) for one in listed} <= archived
        assert min(one.first_ns for one in listed) < 8 * SECOND
        assert max(one.last_ns for one in listed) > 52 * SECOND
        assert all(one.thumbnail for one in listed)
        assert len(warnings) == (reason != "there is no")  # the file that is not used
        watch(engine, range(61, 71))
        assert engine.status().memory.slots == CAPACITY + 5
        assert ask(engine).covered_until_ns == 70 * SECOND
    with engine_in(folder, lambda: model) as (engine, warnings):
        assert "restored a memory" in engine.status().beginning.sentence
        assert engine.status().memory.slots == CAPACITY + 5
        assert not warnings


def test_the_memory_of_another_model_is_rebuilt(folder: Path) -> None:
    other = load_model("tiny-random", device="cpu", max_pixels=112 * 112)
    other.network.model.visual.blocks[0].attn.qkv.weight.data += 1.0  # type: ignore[attr-defined]
    with engine_in(folder, lambda: other, policy="recent") as (engine, _):
        assert "was made with weights" in rebuilt(engine)
        newest = [one.stamp_ns for one in frames_in(folder)][-engine.status().memory.capacity :]
        assert [one.last_ns for one in entries(engine)] == newest


@pytest.mark.parametrize("still", [False, True], ids=["moving", "static"])
@pytest.mark.parametrize("policy", ["flash", "uniform"])
def test_live_frames_during_a_rebuild_give_the_memory_that_they_give_after_it(
    policy: str, still: bool, model: VisionLanguageModel, folder: Path, tmp_path: Path
) -> None:
    (folder / "memory.safetensors").unlink()
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))

    def show(engine: Engine) -> None:
        for number in range(61, 71):
            image = frame(61 if still else number)
            engine.offer(replace(image, stamp_ns=number * SECOND))
            wait_until(lambda: settled(engine))
        engine.submit(lambda _: None).result(30.0)  # the status of the memory follows the count of its frames

    with engine_in(copy, lambda: model, policy=policy) as (engine, _):
        rebuilt(engine)
        show(engine)
        assert (engine.status().frames.static > 0) == still
        after = state_of(engine)
    halting = halted(model)
    with engine_in(folder, lambda: halting, policy=policy) as (engine, _):
        deactivate_after_one(engine, halting)
        show(engine)
        assert engine.status().memory.slots == 5
        engine.activate()
        rebuilt(engine)
        during = state_of(engine)
    assert during.values == after.values
    assert all(torch.equal(tensor, during.tensors[name]) for name, tensor in after.tensors.items())


def test_a_live_frame_waits_for_one_key_frame_at_most(model: VisionLanguageModel, folder: Path) -> None:
    halting = halted(model)
    with engine_in(folder, lambda: halting) as (engine, _):
        assert halting.halted.wait(60.0)
        offer_decoded(engine, (120, 160))
        slots: list[int] = []
        halting.on_encode = lambda: slots.append(engine.status().memory.slots)
        halting.released.set()
        rebuilt(engine)
        assert 1 in slots[:4]  # frame by frame: the live slot is in the memory after two more key frames
        assert engine.status().memory.slots == CAPACITY + 1


def offer_decoded(engine: Engine, size: tuple[int, int]) -> None:
    """Offer the two frames of a slot, and wait until they are decoded."""
    for number in (61, 62):
        engine.offer(frame(number, size=size))
    worker = engine._worker
    assert worker is not None
    wait_until(lambda: worker.ingest.prefetch.full)
    worker.ingest.prefetch.submit(lambda: None).result(30.0)


def test_only_key_frames_of_the_cameras_of_the_node_are_used(model: VisionLanguageModel, tmp_path: Path) -> None:
    with engine_in(tmp_path, lambda: model, policy="recent", cameras=("left", "right")) as (engine, _):
        for number in range(1, 9):
            for camera in ("left", "right"):
                watch(engine, range(number, number + 1), camera)
        wait_until(lambda: engine.status().archive.written == 8)
    with engine_in(tmp_path, lambda: model, cameras=("left", "right")) as (engine, _):
        assert "rebuilt from 8 of 8 archived key frames" in rebuilt(engine)
        assert {one.camera for one in entries(engine)} == {"left", "right"}
    (tmp_path / "memory.safetensors").unlink()
    with engine_in(tmp_path, lambda: model, cameras=("left",)) as (engine, warnings):
        assert "rebuilt from 4 of 4 archived key frames" in rebuilt(engine)
        assert {one.camera for one in entries(engine)} == {"left"}
        assert not warnings


def test_replies_say_that_the_memory_is_being_rebuilt(model: VisionLanguageModel, folder: Path) -> None:
    halting = halted(model)
    with engine_in(folder, lambda: halting) as (engine, _):
        assert halting.halted.wait(60.0)
        assert engine.status().beginning.under_way
        request = engine.ask(Question("What is there?"))
        halting.released.set()
        answer = request.answer(60.0)
        assert answer.error_code is ErrorCode.NO_FRAMES
        assert "is being rebuilt from the archive" in answer.error_msg
        rebuilt(engine)
        assert ask(engine).adjustments == ()


def test_a_rebuild_that_is_interrupted_begins_again(model: VisionLanguageModel, folder: Path) -> None:
    halting = halted(model)
    with engine_in(folder, lambda: halting) as (engine, warnings):
        assert halting.halted.wait(60.0)
        stopping = threading.Thread(target=engine.stop)
        stopping.start()
        wait_until(engine._stop.is_set)
        halting.released.set()
        stopping.join()
        assert halting.slots == 1
        assert any("its rebuild ended after 1 of 9 key frames" in sentence for sentence in warnings)
        assert not (folder / "memory.safetensors").exists()
    with engine_in(folder, lambda: model) as (engine, _):
        assert f"rebuilt from {CAPACITY} of" in rebuilt(engine)


def test_an_engine_stops_while_it_reads_the_archive(
    model: VisionLanguageModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, is_reading, released = KeyFrameReader._sampled, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Sampled:
        is_reading.set()
        assert released.wait(60.0)
        return read(*arguments)

    monkeypatch.setattr(KeyFrameReader, "_sampled", slow)
    config = replace(CONFIG, archive=ArchiveConfig(str(folder), 3600.0, 0.1))
    engine = Engine(config, lambda: model, EngineHooks(lambda _: None, lambda _: None))
    engine.start()
    try:
        assert is_reading.wait(60.0)
        assert engine.state is State.LOADING
        engine.stop()
        engine._thread.join(60.0)
        assert not engine._thread.is_alive()
    finally:
        released.set()


def test_a_rebuild_pauses_while_the_engine_is_inactive(model: VisionLanguageModel, folder: Path) -> None:
    halting = halted(model)
    with engine_in(folder, lambda: halting) as (engine, _):
        deactivate_after_one(engine, halting)
        engine.submit(lambda _: None).result(30.0)
        engine.submit(lambda _: None).result(30.0)  # each is a step of the worker
        assert halting.slots == 1
        engine.activate()
        assert f"rebuilt from {CAPACITY} of" in rebuilt(engine)


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
        wait_until(lambda: engine.status().beginning.done == 2)
        halting.on_encode = lambda: None
        done = engine.submit(lambda commands: (commands.forget(scope), commands.erase_from_disk(scope))).result(30.0)[1]
        assert done.snapshot is not None
        assert done.archive is not None
        assert done.snapshot.result(30.0) == 0
        assert done.archive.result(30.0) > 0
        assert not (folder / "unfit.safetensors").exists()
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
        sentence = engine.status().beginning.sentence
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
            work.left[0] = replace(work.left[0], jpeg=b"no image")

        engine.submit(damage).result(30.0)
        engine.activate()
        assert f"rebuilt from {CAPACITY - 1} of" in rebuilt(engine)
        assert engine.status().beginning.left_out == 1
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
