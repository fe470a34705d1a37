"""Reads image topics of bags: rosbag2 folders, single .mcap and .db3 files, and ROS 1 bags."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from flash_vstream_ros.ros.image_transport import TRANSPORTS, DecodingConfig
from flash_vstream_ros.ros.images import BadImage
from flash_vstream_ros.ros.stamps import BadStamp, stamp_ns

from .decompression import bound_rosbags
from .frame_source import MAX_PIXELS, SourceError, SourceFrame
from .image_folder import natural_order

STORAGE_SUFFIXES = (".db3", ".mcap")
BAG_SUFFIXES = (".bag",)
IMAGE_TYPES = {transport.type_name: transport for transport in TRANSPORTS.values()}
MAX_METADATA_BYTES = 4 << 20
FIRST_MESSAGES = 20  # messages that are searched for a frame_id
LONGEST_REASON = 300  # most characters of the reader's error


def bag_path(place: Path) -> Path | None:
    """The folder or file to read if `place` is a bag or a bag's storage file, else None."""
    if place.is_dir():
        is_bag = (place / "metadata.yaml").exists() or any(_storage_files(place))
        return place if is_bag else None
    stem = place.with_suffix("") if place.suffix == ".zstd" else place
    metadata = place.parent / "metadata.yaml"
    if stem.suffix in STORAGE_SUFFIXES and metadata.is_file() and place.name in _metadata_text(metadata):
        return place.parent
    return place if place.suffix in (*STORAGE_SUFFIXES, *BAG_SUFFIXES) else None


class BagSource:
    """One image topic of a bag. Stamps come from the headers; a header without one gets the time of recording."""

    own_stamps = True
    constant_fps = None

    def __init__(self, path: Path, topic: str, *, log: Callable[[str], None] | None = None) -> None:
        self.path, self.topic, self.skipped = path, topic, 0
        self._log = log or (lambda _: None)
        self._files = _files_to_read(path)
        with self._reader() as reader:
            images = sorted({c.topic for c in reader.connections if c.msgtype in IMAGE_TYPES})
            self.topic = _choose(path, topic, images, sorted({c.topic for c in reader.connections}))
            connections = [c for c in reader.connections if c.topic == self.topic]
            self.frames: int | None = sum(c.msgcount for c in connections)
            self.frame_id, found = "", False
            for connection, _, raw in self._messages(reader, FIRST_MESSAGES):
                found = True
                try:
                    self.frame_id = str(reader.deserialize(raw, connection.msgtype).header.frame_id)
                except Exception:  # counted as skipped when the bag is read
                    continue
                break
            if not found:
                raise SourceError(f"topic {self.topic} of {path} has no messages")
        self.title = f"{path.name} {self.topic}"

    def __iter__(self) -> Iterator[SourceFrame]:
        self.skipped, count, reason = 0, 0, "nothing was read"
        decoders: dict[str, Any] = {
            name: transport.decoder(DecodingConfig(decoder="builtin", max_megapixels=MAX_PIXELS / 1e6), self._log)
            for name, transport in IMAGE_TYPES.items()
        }
        with self._reader() as reader:
            for connection, recorded_ns, raw in self._messages(reader):
                try:
                    message = reader.deserialize(raw, connection.msgtype)
                    rgb = decoders[connection.msgtype].to_rgb(message)
                    stamp = stamp_ns(message.header.stamp) or recorded_ns
                except (BadImage, BadStamp) as error:
                    self.skipped, reason = self.skipped + 1, str(error)
                    continue
                except Exception as error:  # damaged data may raise any exception in rosbags
                    self.skipped, reason = self.skipped + 1, _reason(error)
                    continue
                count += 1
                yield SourceFrame(stamp, rgb)
        if not count:
            raise SourceError(f"no image on {self.topic} of {self.path} can be decoded: {reason}")

    def _reader(self) -> closing[Any]:
        try:
            from rosbags.highlevel import AnyReader
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise SourceError(f"reading a bag needs the package rosbags: pip install rosbags ({error})") from None
        bound_rosbags()
        try:
            reader = AnyReader(self._files, default_typestore=get_typestore(Stores.LATEST))
            reader.open()
        except SourceError:
            raise
        except Exception as error:  # damaged data may raise any exception in rosbags
            raise self._unreadable(error) from error
        return closing(reader)

    def _messages(self, reader: Any, most: int | None = None) -> Iterator[tuple[Any, int, bytes]]:
        """Messages of the topic. Raises SourceError if the bag is damaged."""
        connections = [c for c in reader.connections if c.topic == self.topic]
        try:
            yield from islice(reader.messages(connections), most)
        except SourceError:
            raise
        except Exception as error:  # damaged data may raise any exception in rosbags
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> SourceError:
        advice = ""
        if any(path.suffix == ".mcap" for path in (*self._files, *_storage_files(self.path))):
            advice = "; if it was cut off, `mcap recover` saves its readable part"
        elif self.path.suffix == ".bag":
            advice = "; if it was cut off, `rosbag reindex` may help"
        elif self.path.is_dir():
            advice = f"; if its metadata is damaged, `ros2 bag reindex {self.path}` rebuilds it"
        return SourceError(f"{self.path} cannot be read as a bag: {_reason(error)}{advice}")


def _files_to_read(path: Path) -> list[Path]:
    """`path` itself, or the storage files, in natural order, of a folder without metadata.yaml. Raises SourceError."""
    if not path.is_dir():
        return [path]
    for entry in path.iterdir():
        if not entry.is_file() and not entry.is_dir():
            raise SourceError(f"{entry} is neither a file nor a folder: pipes and devices are not read")
    metadata = path / "metadata.yaml"
    if not metadata.exists():
        return _storage_files(path)
    if not metadata.is_file() or metadata.stat().st_size > MAX_METADATA_BYTES:
        raise SourceError(f"{path} cannot be read as a bag: its metadata.yaml is not a file of a few megabytes")
    return [path]


def _storage_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    found = (p for p in path.iterdir() if p.suffix in STORAGE_SUFFIXES and not p.name.startswith(".") and p.is_file())
    return sorted(found, key=natural_order)


def _metadata_text(path: Path) -> str:
    if path.stat().st_size > MAX_METADATA_BYTES:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _reason(error: Exception) -> str:
    """Type and text of an error on one line, cut to a length."""
    text = " ".join(str(error)[: 4 * LONGEST_REASON].split())[:LONGEST_REASON].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _choose(path: Path, asked: str, images: Sequence[str], topics: Sequence[str]) -> str:
    if asked:
        named = "/" + asked.lstrip("/")
        if named in images:
            return named
        raise SourceError(f"{path} has no image topic {named}; it has {', '.join(images) or 'no image topic at all'}")
    if not images:
        raise SourceError(
            f"{path} has no sensor_msgs/Image or CompressedImage topic; its topics are {', '.join(topics) or 'none'}"
        )
    if len(images) > 1:
        raise SourceError(f"{path} has several image topics: choose one with --bag-topic: {', '.join(images)}")
    return images[0]
