"""Bags as frame sources: topics, stamps, lone storage files, and damaged recordings."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags import rosbag2
from rosbags.typesys import Stores, get_typestore
from video_files import corner_image

from flash_vstream_ros.cli.sources import SECOND, SourceError, open_source

STORE = get_typestore(Stores.LATEST)
IMAGE, COMPRESSED, TEXT = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "std_msgs/msg/String"
STAMPS = [50 * SECOND + index * SECOND // 4 for index in range(4)]
MCAP_RECOVER = "mcap recover"


def grey_level(rgb: np.ndarray) -> int:
    return round(float(rgb[30:, 40:].mean()) / 20)


def serialized(type_name: str, index: int, format: str = "png") -> bytes:
    """Message `index` of a topic of this type."""
    types = STORE.types
    stamp = types["builtin_interfaces/msg/Time"](sec=50, nanosec=index * 250_000_000)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="bag_cam")
    bgr = np.ascontiguousarray(corner_image(index + 1)[..., ::-1])
    if type_name == IMAGE:
        message = types[IMAGE](header, 48, 64, "bgr8", 0, 192, bgr.reshape(-1))
    elif type_name == COMPRESSED:
        message = types[COMPRESSED](header, format, cv2.imencode(".png", bgr)[1].reshape(-1))
    else:
        message = types[TEXT](data="words")
    return bytes(STORE.serialize_cdr(message, type_name))


def write_bag(
    path: Path,
    storage: str,
    topics: dict[str, str],
    *,
    damage: Callable[[int, bytes], bytes] | None = None,
    compressed: rosbag2.CompressionMode | None = None,
    format: str = "png",
) -> Path:
    plugin = rosbag2.StoragePlugin.MCAP if storage == "mcap" else rosbag2.StoragePlugin.SQLITE3
    writer = rosbag2.Writer(path, version=9, storage_plugin=plugin)
    if compressed:
        writer.set_compression(compressed, rosbag2.CompressionFormat.ZSTD)
    with writer:
        for topic, type_name in topics.items():
            connection = writer.add_connection(topic, type_name, typestore=STORE)
            for index in range(4):
                data = serialized(type_name, index, format)
                writer.write(connection, 90 * SECOND + index, damage(index, data) if damage else data)
    return path


def storage_file(bag: Path) -> Path:
    return next(path for path in bag.iterdir() if path.name != "metadata.yaml")


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
@pytest.mark.parametrize("type_name", [IMAGE, COMPRESSED])
def test_a_bag_keeps_its_header_stamps(tmp_path: Path, storage: str, type_name: str) -> None:
    bag = write_bag(tmp_path / "bag", storage, {"/talk": TEXT, "/cam": type_name})
    lone = tmp_path / "elsewhere" / storage_file(bag).name
    lone.parent.mkdir()
    lone.write_bytes(storage_file(bag).read_bytes())
    for path in (bag, storage_file(bag), lone, lone.parent):
        source = open_source(str(path))
        frames = list(source)
        assert [f.stamp_ns for f in frames] == STAMPS
        assert [grey_level(f.rgb) for f in frames] == [1, 2, 3, 4]
        assert frames[0].rgb[4, 4].tolist() == [220, 30, 30]
        assert (source.frames, source.frame_id, source.own_stamps) == (4, "bag_cam", True)


def test_a_compressed_storage_file_next_to_its_metadata_is_read(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", "sqlite3", {"/cam": IMAGE}, compressed=rosbag2.CompressionMode.FILE)
    assert storage_file(bag).suffix == ".zstd"
    assert len(list(open_source(str(storage_file(bag))))) == 4
    (bag / "metadata.yaml").unlink()
    with pytest.raises(SourceError, match=r"compressed, without the metadata\.yaml.*zstd -d"):
        open_source(str(storage_file(bag)))


@pytest.mark.parametrize(
    ("name", "words"), [("a.bag.active", "rosbag reindex"), ("a.zip", "unpack"), ("a.mp4.gz", "unpack")]
)
def test_the_error_for_an_unreadable_recording_names_it(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(SourceError, match=words):
        open_source(str(tmp_path / name))


def test_exchanged_red_and_blue_are_corrected_and_logged_once(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", "mcap", {"/cam": COMPRESSED}, format="rgb8; png compressed rgb8")
    logged: list[str] = []
    frames = list(open_source(str(bag), log=logged.append))
    assert frames[0].rgb[4, 4].tolist() == [220, 30, 30]
    assert len(logged) == 1


def test_a_bag_with_several_cameras_needs_a_topic(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", "mcap", {"/left": IMAGE, "/right": IMAGE})
    with pytest.raises(SourceError, match=r"--bag-topic: /left, /right"):
        open_source(str(bag))
    with pytest.raises(SourceError, match=r"no image topic /up; it has /left, /right"):
        open_source(str(bag), bag_topic="/up")
    assert len(list(open_source(str(bag), bag_topic="right"))) == 4


def test_the_error_for_a_bag_without_images_lists_its_topics(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", "sqlite3", {"/talk": TEXT})
    with pytest.raises(SourceError, match="/talk"):
        open_source(str(bag))


def drop_table(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("drop table messages")


def huge_record(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:8] + b"\x01" + struct.pack("<Q", 1 << 62) + data[17:])


@pytest.mark.parametrize(
    ("storage", "damage", "words"),
    [
        ("mcap", lambda path: path.write_bytes(path.read_bytes()[:9000]), MCAP_RECOVER),
        ("mcap", lambda path: path.write_bytes(b""), MCAP_RECOVER),
        ("mcap", lambda path: path.write_bytes(b"\x89MCAP0\r\n"), MCAP_RECOVER),
        ("mcap", lambda path: path.write_bytes(bytes(range(256)) * 40), MCAP_RECOVER),
        ("mcap", huge_record, MCAP_RECOVER),
        ("sqlite3", lambda path: path.write_bytes(path.read_bytes()[:9000]), "cannot be read as a bag"),
        ("sqlite3", lambda path: path.write_bytes(b""), "cannot be read as a bag"),
        ("sqlite3", lambda path: path.write_bytes(bytes(range(256)) * 40), "cannot be read as a bag"),
        ("sqlite3", drop_table, "cannot be read as a bag"),
        ("sqlite3", Path.unlink, "cannot be read as a bag"),
    ],
)
def test_a_damaged_storage_file_is_an_error(
    tmp_path: Path, storage: str, damage: Callable[[Path], object], words: str
) -> None:
    bag = write_bag(tmp_path / "bag", storage, {"/cam": IMAGE})
    damage(storage_file(bag))
    with pytest.raises(SourceError, match=words) as caught:
        list(open_source(str(bag)))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "nonsense: [",
        "rosbag2_bagfile_information: 3",
        "!!python/object/apply:os.system ['touch owned']\n",
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)),
        "rosbag2_bagfile_information: {version: 9, relative_file_paths: [../../../etc/passwd]}",
        "[" * 5000,
    ],
)
def test_damaged_metadata_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "metadata.yaml").write_text(text)
    with pytest.raises(SourceError, match="cannot be read as a bag") as caught:
        open_source(str(tmp_path))
    assert len(str(caught.value)) < 1000


def test_a_pipe_in_a_bag_is_refused_without_waiting(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", "mcap", {"/cam": IMAGE})
    path = storage_file(bag)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        open_source(str(bag))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: bytes(range(40)),
        lambda data: data[:30],
        lambda data: data[:48] + struct.pack("<I", (1 << 32) - 1) + data[52:],
        lambda data: data.replace(b"bag_cam", b"\xff\xfe\xfd_cam"),
        lambda data: data[:4] + struct.pack("<iI", -5, 0) + data[12:],  # a negative stamp
    ],
)
@pytest.mark.parametrize("at", [0, 2])
def test_a_damaged_message_is_skipped_and_counted(tmp_path: Path, damage: Callable[[bytes], bytes], at: int) -> None:
    bag = write_bag(
        tmp_path / "bag", "sqlite3", {"/cam": IMAGE}, damage=lambda index, data: damage(data) if index == at else data
    )
    source = open_source(str(bag))
    assert [frame.stamp_ns for frame in source] == [stamp for index, stamp in enumerate(STAMPS) if index != at]
    assert source.skipped == 1
    assert source.frame_id == "bag_cam"


def test_a_bag_of_damaged_messages_only_is_an_error(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", "mcap", {"/cam": IMAGE}, damage=lambda _, data: data[:30])
    with pytest.raises(SourceError, match="no image on /cam"):
        list(open_source(str(bag)))
