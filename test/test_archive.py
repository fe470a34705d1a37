"""The archive: what it keeps, what it forgets, and its bounds."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import cv2
import numpy as np
import pytest
from archive_writer import MIB, NOTHING, Writer, engine_in, erase, frames_in, writer
from tiny_engine import SECOND, image, model, wait_until, watch

from flash_vstream_ros.engine.archive.archive_config import ArchiveConfig
from flash_vstream_ros.engine.archive.archive_folder import database_files
from flash_vstream_ros.engine.archive.database import bytes_on_disk, read_key_frames, reading
from flash_vstream_ros.memory.pose import Pose, UnknownPose
from flash_vstream_ros.memory.region import Near
from flash_vstream_ros.memory.scope import EVERYTHING, Scope
from flash_vstream_ros.memory.slot import Grid, Slot
from flash_vstream_ros.models.interface import VisionLanguageModel

__all__ = ["model", "writer"]  # fixtures


def test_every_slot_that_shows_something_new_is_archived(model: VisionLanguageModel, tmp_path: Path) -> None:
    with engine_in(tmp_path, model) as (engine, warnings):
        watch(engine, range(1, 13))
        wait_until(lambda: engine.status().archive.written == 6)
        assert engine.status().archive.bytes == bytes_on_disk(tmp_path / "archive.sqlite")
        assert not warnings
    frames = frames_in(tmp_path)
    assert [(frame.first_ns, frame.last_ns) for frame in frames] == [
        (n * SECOND, (n + 1) * SECOND) for n in range(1, 12, 2)
    ]
    assert {(frame.camera, frame.frame_id) for frame in frames} == {("camera", "camera_optical")}
    assert frames[0].novelty == 1.0
    assert all(0.0 <= frame.novelty <= 1.0 and frame.cluster is not None for frame in frames)
    decoded = cv2.imdecode(np.frombuffer(frames[2].jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert decoded.shape == (120, 160, 3)
    errors = [np.abs(decoded.astype(float) - image(n)).mean() for n in range(1, 13)]
    assert int(np.argmin(errors)) == 5  # the second frame of its slot
    for file in tmp_path.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file


def test_nothing_is_archived_without_a_bound(model: VisionLanguageModel, tmp_path: Path) -> None:
    with engine_in(tmp_path, model, max_gib=0.0) as (engine, _):
        watch(engine, range(1, 9))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lock", "memory.safetensors"]


def test_large_images_are_scaled_down(writer: Writer, tmp_path: Path) -> None:
    slot = Slot("camera", "", 0, SECOND, NOTHING, NOTHING, Grid(4, 4))  # type: ignore[arg-type]
    writer.archive.insert(slot, np.zeros((1080, 1920, 3), np.uint8), 1.0, None)
    writer.settle(1)
    (frame,) = frames_in(tmp_path)
    assert cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (360, 640, 3)
    assert frame.cluster is None


def test_a_static_scene_extends_its_key_frame(writer: Writer, tmp_path: Path) -> None:
    writer.insert(10)
    writer.archive.extend("camera", 12 * SECOND)  # before or after it is written
    writer.settle(1)
    writer.archive.extend("camera", 40 * SECOND)
    wait_until(lambda: frames_in(tmp_path)[0].last_ns == 40 * SECOND)
    assert frames_in(tmp_path)[0].stamp_ns == 10 * SECOND
    assert frames_in(tmp_path, Scope(since_ns=30 * SECOND))
    assert erase(writer.archive, Scope(since_ns=30 * SECOND, until_ns=31 * SECOND)) == 1


@pytest.mark.parametrize("when", ["queued", "written", "after a restart"])
def test_forgetting_leaves_no_byte_of_an_image_in_any_file(when: str, tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    for number in range(1, 21):
        writer.insert(number, camera="left" if number % 2 else "right")
    if when != "queued":
        writer.settle(20)
    jpegs = {} if when == "queued" else {frame.stamp_ns: frame.jpeg for frame in frames_in(tmp_path)}
    if when == "after a restart":
        writer.close()
        writer = Writer(tmp_path)
    scope = Scope(("left",), since_ns=8 * SECOND)
    erase(writer.archive, scope)
    present = traces(tmp_path)
    writer.insert(30, camera="left")
    writer.settle(1 if when == "after a restart" else 21 - (0 if when == "written" else 7))
    writer.close()
    kept = {frame.stamp_ns // SECOND for frame in frames_in(tmp_path)}
    assert kept == {n for n in range(1, 21) if n % 2 == 0 or n < 8} | {30}
    for stamp_ns, jpeg in jpegs.items():
        middle = jpeg[len(jpeg) // 2 :][:48]
        assert (middle in present) == (stamp_ns // SECOND in kept), stamp_ns // SECOND


def traces(folder: Path) -> bytes:
    return b"\n".join(file.read_bytes() for file in folder.iterdir())


def test_a_reset_deletes_the_files(writer: Writer, tmp_path: Path) -> None:
    for number in range(1, 9):
        writer.insert(number)
    writer.settle(8)
    assert erase(writer.archive, EVERYTHING) == 8
    assert not [file for file in database_files(tmp_path / "archive.sqlite") if file.exists()]
    writer.insert(20)
    writer.settle(9)
    assert [frame.stamp_ns for frame in frames_in(tmp_path)] == [20 * SECOND]


def test_an_archive_that_is_off_still_forgets(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    for number in range(1, 9):
        writer.insert(number)
    writer.close()
    off = Writer(tmp_path, ArchiveConfig(str(tmp_path)))
    assert not off.archive.enabled
    assert erase(off.archive, Scope(since_ns=4 * SECOND)) == 5
    off.close()
    assert [frame.stamp_ns // SECOND for frame in frames_in(tmp_path)] == [1, 2, 3]


def test_key_frames_keep_their_pose_and_can_be_erased_by_place(writer: Writer, tmp_path: Path) -> None:
    poses = [
        Pose((float(x), 0.5, 0.0), (0.0, 0.0, 0.6, 0.8), "map", map_id, (number + 1) * SECOND, (0.1,) * 36)
        for number, (x, map_id) in enumerate([(0, "ground"), (2, "ground"), (2, "upstairs")])
    ]
    for number, pose in enumerate([*poses, UnknownPose("late")], 1):
        slot = Slot("camera", "", number, number * SECOND, NOTHING, NOTHING, Grid(4, 4), pose=pose)  # type: ignore[arg-type]
        writer.archive.insert(slot, image(number), 0.5, None)
    writer.settle(4)
    assert [frame.pose for frame in frames_in(tmp_path)] == [*poses, UnknownPose("late")]
    circle = Scope(near=Near(2.0, 0.0, 1.0, "map", "ground"))
    assert [frame.pose for frame in frames_in(tmp_path, circle)] == [poses[1]]
    assert erase(writer.archive, circle) == 1
    assert [frame.pose for frame in frames_in(tmp_path)] == [poses[0], poses[2], UnknownPose("late")]


def test_a_key_frame_with_a_damaged_pose_is_left_out(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    pose = Pose((1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), "map", "", SECOND)
    slot = Slot("camera", "", 1, SECOND, NOTHING, NOTHING, Grid(4, 4), pose=pose)  # type: ignore[arg-type]
    writer.archive.insert(slot, image(1), 0.5, None)
    writer.settle(1)
    writer.close()
    for change in ("x = 2.0", "pose_unknown = 'late'", "covariance = x'00'"):
        with sqlite3.connect(tmp_path / "archive.sqlite") as other:
            other.execute(f"UPDATE key_frames SET {change}")
        other.close()
        with reading(tmp_path / "archive.sqlite") as connection:
            assert list(read_key_frames(connection, EVERYTHING)) == [None]


def test_a_clock_set_back_is_counted(writer: Writer, tmp_path: Path) -> None:
    for seconds in (1000, 1002, 10, 12, 14):
        writer.insert(seconds)
    writer.settle(5)
    assert writer.archive.status.clock_set_back == 1
    assert any("went back by 992 s" in sentence for sentence in writer.warnings)
    assert [frame.stamp_ns // SECOND for frame in frames_in(tmp_path)] == [10, 12, 14, 1000, 1002]


def test_key_frames_older_than_max_days_are_deleted(tmp_path: Path) -> None:
    writer = Writer(tmp_path, ArchiveConfig(str(tmp_path), max_gib=0.1, max_days=1.0))
    writer.insert(100)
    writer.settle(1)
    for number in range(40):
        writer.insert(90_000 + number)
    writer.settle(41)
    writer.insert(90_100)
    writer.settle(42)
    wait_until(lambda: writer.archive.status.thinned == 1)
    writer.close()
    assert min(frame.stamp_ns for frame in frames_in(tmp_path)) == 90_000 * SECOND


def test_a_lower_bound_applies_at_once(tmp_path: Path) -> None:
    writer = Writer(tmp_path, ArchiveConfig(str(tmp_path), max_gib=8 * MIB))
    for number in range(1, 81):
        slot = Slot("camera", "", number, number + 1, NOTHING, NOTHING, Grid(4, 4))  # type: ignore[arg-type]
        writer.archive.insert(slot, image(number, (160, 240)), 0.5, None)
        writer.settle(number - 20)
    writer.settle(80)
    before = writer.archive.status.bytes
    assert before > 5 << 19
    writer.archive.config = ArchiveConfig(str(tmp_path), max_gib=2 * MIB)
    writer.insert(100)
    writer.settle(81)
    assert writer.archive.status.bytes <= 2 << 20
    assert writer.archive.status.bytes == bytes_on_disk(tmp_path / "archive.sqlite")
    writer.close()
    assert any(frame.stamp_ns == 100 * SECOND for frame in frames_in(tmp_path))
