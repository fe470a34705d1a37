"""A memory that cannot be restored is rebuilt from archived key frames, while live frames go on."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from archive_writer import frames_in
from rebuilding_engine import (
    ARCHIVED,
    CAPACITY,
    EARLY,
    deactivate_after_one,
    engine_in,
    folder,
    halted,
    offer_decoded,
    rebuilt,
    seen,
    state_of,
)
from tiny_engine import CONFIG, SECOND, ask, entries, frame, model, settled, wait_until, watch

from flash_vstream_ros.engine.answering.question import ErrorCode, Question
from flash_vstream_ros.engine.archive.archive_config import ArchiveConfig
from flash_vstream_ros.engine.archive.recall import KeyFrameReader, Sampled
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.hooks import EngineHooks
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.memory.memory_file import FORMAT
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model

__all__ = ["folder", "model", "seen"]  # fixtures


def _damage(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def _other_format(file: Path) -> None:
    key = '"flash_vstream_memory":'
    file.write_bytes(file.read_bytes().replace(f'{key}"{FORMAT}"'.encode(), f'{key}"9"'.encode()))


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
        start = engine.status().memory_start
        assert (start.done, start.key_frames, start.left_out) == (CAPACITY, CAPACITY, 0)
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
        assert "restored a memory" in engine.status().memory_start.sentence
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
        assert engine.status().memory_start.under_way
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
