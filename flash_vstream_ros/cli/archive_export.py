"""Key frames as a rosbag2 storage file (MCAP) of sensor_msgs/CompressedImage, one topic for each camera."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .output_files import OutputError
from .sources import SECOND

if TYPE_CHECKING:
    from flash_vstream_ros.engine.archive.key_frame import KeyFrame

IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
BAG_VERSION = 8  # format of metadata.yaml, which is not kept, since a storage file alone is a complete bag


class ExportCounts(NamedTuple):
    """Numbers of key frames written and damaged, and the topics written."""

    written: int
    damaged: int
    topics: tuple[str, ...]


def write_bag(path: Path, frames: Iterable[KeyFrame | None]) -> ExportCounts:
    """Write `frames` to `path`, readable by its owner only. None stands for a damaged frame. Raises OutputError.

    An existing file is replaced once the bag is complete, and stays if there is nothing to write.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.LATEST)
    written = damaged = 0
    connections: dict[str, Any] = {}
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
            bag = Path(folder) / path.stem
            with Writer(bag, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
                for frame in frames:
                    if frame is None:
                        damaged += 1
                        continue
                    topic = _topic(frame.camera)
                    if topic not in connections:
                        connections[topic] = writer.add_connection(topic, IMAGE_TYPE, typestore=store)
                    message = store.serialize_cdr(_message(store, frame), IMAGE_TYPE)
                    writer.write(connections[topic], frame.stamp_ns, message)
                    written += 1
            if written:
                (storage,) = bag.glob("*.mcap")
                storage.chmod(0o600)
                storage.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return ExportCounts(written, damaged, tuple(connections))


def _topic(camera: str) -> str:
    return f"/{re.sub('[^A-Za-z0-9_]', '_', camera)}/image/compressed"


def _message(store: Any, frame: KeyFrame) -> Any:
    seconds, nanoseconds = divmod(frame.stamp_ns, SECOND)
    stamp = store.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    header = store.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame.frame_id)
    return store.types[IMAGE_TYPE](header=header, format="jpeg", data=np.frombuffer(frame.jpeg, np.uint8))
