"""`remember` and `ask --memory`: a recording becomes the memory that a node would have, and is asked without one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_engine import ask, running, settled, wait_until

from flash_vstream_ros.cli import main, remember
from flash_vstream_ros.cli.sources import open_source
from flash_vstream_ros.engine.archive.archive_config import ArchiveConfig
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.memory.memory_file import read_memory
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.node.offline_parameters import BadParameters, parameter_values
from flash_vstream_ros.node.settings import settings_from

PARAMETERS = """
/**:
  ros__parameters:
    model: {name: tiny-random, max_pixels: 12544}
    sample_fps: 2.0
    memory: {synopsis_slots: 5, key_frame_slots: 3}
    question: {max_new_tokens: 8}
"""
FRAMES = 61
CLIP_FRAMES = int(os.environ.get("FLASH_VSTREAM_CLIP_FRAMES", FRAMES))  # of the clip that is compared with a node


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a parameter file and a video of ten frames a second."""
    (tmp_path / "my.yaml").write_text(PARAMETERS)
    write_clip(tmp_path / "clip.avi", FRAMES)
    return tmp_path


def write_clip(path: Path, frames: int) -> None:
    draw = np.random.default_rng(4)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (160, 120))
    for _ in range(frames):
        writer.write(cv2.resize(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8), (160, 120)))
    writer.release()


def _frame(folder: Path, number: int) -> np.ndarray:
    video = cv2.VideoCapture(str(folder / "clip.avi"))
    return [video.read()[1] for _ in range(number + 1)][-1]


def remembered(folder: Path, out: str = "memory", *more: str) -> int:
    words = ["remember", str(folder / "clip.avi"), "--out", str(folder / out)]
    return main([*words, "--params-file", str(folder / "my.yaml"), *more])


def state_in(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    state, _ = read_memory(path)
    return dict(state.tensors), state.values["memory"]


def assert_equal_states(a: Path, b: Path) -> None:
    (tensors, values), (others, other_values) = state_in(a), state_in(b)
    assert values == other_values
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)


@pytest.mark.timeout(0)  # FLASH_VSTREAM_CLIP_FRAMES=18000: 30 minutes
def test_it_is_the_memory_of_an_engine_that_gets_the_frames_slowly(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(folder / "clip.avi", CLIP_FRAMES)
    assert remembered(folder) == 0
    sampled = (CLIP_FRAMES - 1) // 5 + 1
    counts = f"{CLIP_FRAMES} frames, {sampled} ingested, {CLIP_FRAMES - sampled} not sampled, 0 dropped"
    assert counts in capsys.readouterr().out
    settings = settings_from(
        {**parameter_values(str(folder / "my.yaml"), None), "archive.path": str(folder / "archive")}
    )
    source = remember._frames(_source(folder), "camera")
    with running(settings.engine, lambda: load_model(**settings.model)) as (engine, _):
        for frame in source:
            engine.offer(frame)
            wait_until(lambda: settled(engine))
        engine.submit(MemoryCommands.save).result(30.0).result(30.0)
    assert_equal_states(folder / "memory", folder / "archive" / "memory.safetensors")


def _source(folder: Path) -> Any:
    return open_source(str(folder / "clip.avi"))


def test_an_interrupted_run_is_continued(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert remembered(folder, "whole") == 0

    def breaking(source: Any, camera: str, until: int = 33) -> Iterator[Frame]:
        for number, frame in enumerate(frames_of(source, camera)):
            if number == until:
                raise KeyboardInterrupt
            yield frame

    frames_of = remember._frames
    monkeypatch.setattr(remember, "_frames", breaking)
    monkeypatch.setattr(remember, "SAVE_EVERY_S", 0.0)
    assert remembered(folder) == 130
    assert read_memory(folder / "memory")[0].values["frames"] == 30  # a frame waited for the second one of its slot
    monkeypatch.undo()
    capsys.readouterr()
    assert remembered(folder) == 0
    assert "61 frames, 13 ingested" in capsys.readouterr().out
    assert_equal_states(folder / "whole", folder / "memory")


def test_the_file_is_asked_without_a_node_and_by_a_node(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert remembered(folder) == 0
    capsys.readouterr()
    assert main(["ask", "--memory", str(folder / "memory"), "--json", "What is there?"]) == 0
    reply = json.loads(capsys.readouterr().out)
    assert reply["error_code"] == 0
    assert reply["covered_until"] == {"sec": 5, "nanosec": 500000000}
    assert main(["ask", "--memory", str(folder / "memory"), "--json", "--until", "3", "What was there?"]) == 0
    assert json.loads(capsys.readouterr().out)["covered_until"]["sec"] <= 3
    archive = folder / "archive"
    archive.mkdir()
    (folder / "memory").rename(archive / "memory.safetensors")
    settings = settings_from({**parameter_values(str(folder / "my.yaml"), None), "archive.path": str(archive)})
    with running(settings.engine, lambda: load_model(**settings.model)) as (engine, warnings):
        assert ask(engine).text == reply["answer"]
        assert not warnings


def test_the_file_is_searched_without_a_node(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert remembered(folder) == 0
    before = (folder / "memory").read_bytes()
    capsys.readouterr()
    words = ["search", "red ball", "--memory", str(folder / "memory")]
    assert main([*words, "--json", "--out", str(folder / "sheet.png")]) == 0
    found = capsys.readouterr()
    moments = json.loads(found.out)["moments"]
    assert 0 < len(moments) <= 5
    assert [moment["relevance"] for moment in moments] == sorted((m["relevance"] for m in moments), reverse=True)
    assert f"wrote {folder / 'sheet.png'}" in found.err
    assert cv2.imread(str(folder / "sheet.png")) is not None
    assert main([*words, "--json", "--until", "3", "--top", "1"]) == 0
    (early,) = json.loads(capsys.readouterr().out)["moments"]
    assert early["until"]["sec"] <= 3
    (folder / "still.png").write_bytes(cv2.imencode(".png", _frame(folder, 25))[1].tobytes())
    still = ["search", "--image", str(folder / "still.png"), "--memory", str(folder / "memory")]
    assert main([*still, "--json", "--top", "1"]) == 0
    (alike,) = json.loads(capsys.readouterr().out)["moments"]
    assert alike["thumbnail"]["header"]["stamp"] == {"sec": 2, "nanosec": 500000000}
    assert main(["search", "--image", str(folder / "my.yaml"), "--memory", str(folder / "memory")]) == 1
    assert "is no image" in capsys.readouterr().err
    assert main([*words, "--camera", "left"]) == 1
    assert "unknown camera left" in capsys.readouterr().err
    assert (folder / "memory").read_bytes() == before


def test_a_file_of_a_node_needs_its_parameters(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_from(parameter_values(str(folder / "my.yaml"), None))
    config = replace(settings.engine, archive=ArchiveConfig(str(folder / "archive")))
    with running(config, lambda: load_model(**settings.model)) as (engine, _):
        for frame in remember._frames(_source(folder), "camera"):
            engine.offer(frame)
            wait_until(lambda: settled(engine))
    path = str(folder / "archive" / "memory.safetensors")
    assert main(["ask", "--memory", path, "What is there?"]) == 1
    assert "--params-file or --model too" in capsys.readouterr().err
    assert main(["ask", "--memory", path, "--params-file", str(folder / "my.yaml"), "What is there?"]) == 0
    assert "seen" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"), [(b"no memory", "damaged"), (None, "cannot be read: No such file")], ids=["other", "none"]
)
def test_a_file_that_is_no_memory_is_a_sentence(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "memory"
    if content is not None:
        path.write_bytes(content)
    assert main(["ask", "--memory", str(path), "What is there?"]) == 1
    assert message in capsys.readouterr().err


def test_a_memory_of_something_else_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert remembered(folder) == 0
    raw = (folder / "memory").read_bytes()
    (folder / "my.yaml").write_text(PARAMETERS.replace("synopsis_slots: 5", "synopsis_slots: 6"))
    assert remembered(folder) == 1
    assert "the memory of another source" in capsys.readouterr().err
    assert (folder / "memory").read_bytes() == raw


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/other: {ros__parameters: {sample_fps: 1.0}}", "has no section"),
        ("/**: {ros__parameters: {sample_fps: no}}", "'sample_fps' must be a double"),
        ("{", "cannot be read"),
    ],
)
def test_a_bad_parameter_file_is_a_sentence(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(BadParameters, match=message):
        parameter_values(str(path), None)


def test_settings_of_a_file_are_those_of_the_node(tmp_path: Path) -> None:
    path = Path(__file__).parents[1] / "config" / "household.yaml"
    values = parameter_values(str(path), None)
    assert values["model.name"] == "household"
    assert values["memory.episode_slots"] == 150.0
    assert values["question.queue"] == 4


def test_parameters_of_a_model_are_for_a_file_only(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("ask", "search"):
        assert main([command, "--model", "tiny-random", "What is there?"]) == 2
        assert "a running node has its own" in capsys.readouterr().err
