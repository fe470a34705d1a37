"""Where replayed frames come from: a video, a folder of pictures, a rosbag2, or the demo's patrol."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from flash_vstream_ros.demo.world import World
from flash_vstream_ros.ros.compressed_images import compressed_to_rgb
from flash_vstream_ros.ros.images import BadImage, to_rgb

SECOND = 1_000_000_000
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
IMAGE_TYPES = {"sensor_msgs/msg/Image": to_rgb, "sensor_msgs/msg/CompressedImage": compressed_to_rgb}
FOLDER_FPS = 10.0


class SourceError(RuntimeError):
    """Nothing to replay: the sentence says what was found and what to do."""


class ClipFrame(NamedTuple):
    stamp_ns: int
    rgb: np.ndarray  # [height, width, 3] uint8


class FrameSource(Protocol):
    """Frames in clip order. May be iterated again from the start."""

    title: str
    frame_id: str  # "" where the source does not know
    frames: int | None  # how many; None: unknown until read
    own_stamps: bool  # stamps were recorded, not made up from a frame rate
    skipped: int  # frames promised that could not be decoded, in the iteration so far

    def __iter__(self) -> Iterator[ClipFrame]: ...


def open_source(path: str, *, bag_topic: str = "", fps: float = 0.0, base_ns: int = 0) -> FrameSource:
    """Find out what `path` is and open it.

    Args:
        path: a video file, a folder of pictures, a rosbag2 folder, or `demo` / `demo:SEED`.
        bag_topic: image topic inside a bag; needed when it holds several.
        fps: frames a second of clip time; 0: what the video says, or 10 for pictures and the demo.
        base_ns: stamp of the first frame, for sources without their own stamps.

    Raises:
        SourceError: no such file, not decodable, empty, or no (single) image topic.
    """
    if fps < 0 or not math.isfinite(fps):
        raise SourceError(f"--fps is {fps:g}; expected a positive number")
    demo = re.fullmatch(r"demo(?::(\d+))?", path)
    if demo and not Path(path).exists():
        return DemoSource(int(demo[1] or 0), fps or FOLDER_FPS, base_ns)
    place = Path(path).expanduser()
    if not place.exists():
        raise SourceError(f"{place} does not exist: give a video, a folder of pictures, a rosbag2 or demo")
    if place.suffix in (".db3", ".mcap") and (place.parent / "metadata.yaml").exists():
        place = place.parent
    if place.suffix == ".bag" or (place / "metadata.yaml").exists():
        return BagSource(place, bag_topic)
    if place.suffix in (".db3", ".mcap"):
        raise SourceError(f"{place} has no metadata.yaml beside it: run `ros2 bag reindex {place.parent}` first")
    return PictureSource(place, fps, base_ns) if place.is_dir() else VideoSource(place, fps, base_ns)


class _EvenlySpaced:
    """Stamps made up from a frame rate: base, base + 1/fps, ..."""

    own_stamps = False
    frame_id = ""
    frames: int | None

    def __init__(self, title: str, fps: float, base_ns: int) -> None:
        self.title, self.fps, self.base_ns = title, fps, base_ns
        self.skipped = 0

    def stamp_ns(self, index: int) -> int:
        return self.base_ns + round(index * SECOND / self.fps)


class VideoSource(_EvenlySpaced):
    """A video file, through OpenCV's decoder."""

    def __init__(self, path: Path, fps: float, base_ns: int) -> None:
        self.path = path
        capture = cv2.VideoCapture(str(path))
        found, _ = capture.read()
        told = capture.get(cv2.CAP_PROP_FPS)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
        if not found:
            raise SourceError(f"OpenCV finds no video in {path}: is it complete? try `ffmpeg -i {path} clip.mp4`")
        if not fps and not 0 < told <= 1000:
            raise SourceError(f"{path} does not say how many frames a second it has: give --fps")
        super().__init__(path.name, fps or told, base_ns)
        self.frames = int(count) if 0 < count < 1e9 else None

    def __iter__(self) -> Iterator[ClipFrame]:
        capture = cv2.VideoCapture(str(self.path))
        try:
            index = 0
            while True:
                found, bgr = capture.read()
                if not found:
                    self.skipped = max((self.frames or 0) - index, 0)
                    return
                yield ClipFrame(self.stamp_ns(index), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
                index += 1
        finally:
            capture.release()


class PictureSource(_EvenlySpaced):
    """A folder of pictures in natural order: frame9 comes before frame10."""

    def __init__(self, path: Path, fps: float, base_ns: int) -> None:
        super().__init__(path.name, fps or FOLDER_FPS, base_ns)
        self.pictures = sorted((p for p in path.iterdir() if p.suffix.lower() in PICTURES), key=_natural)
        if not self.pictures:
            raise SourceError(f"{path} holds no pictures ({', '.join(sorted(PICTURES))}) and no rosbag2 metadata.yaml")
        self.frames = len(self.pictures)

    def __iter__(self) -> Iterator[ClipFrame]:
        self.skipped = 0
        for index, picture in enumerate(self.pictures):
            try:
                bgr = cv2.imread(str(picture), cv2.IMREAD_COLOR)
            except cv2.error:
                bgr = None
            if bgr is None:
                self.skipped += 1
                continue
            yield ClipFrame(self.stamp_ns(index), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
        if self.skipped == len(self.pictures):
            raise SourceError(f"none of the {self.skipped} pictures in {self.title} can be decoded")


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", path.name) if part]


class DemoSource(_EvenlySpaced):
    """The demo's simulated patrol."""

    def __init__(self, seed: int, fps: float, base_ns: int) -> None:
        super().__init__(f"demo patrol, seed {seed}", fps, base_ns)
        self.world = World(seed)
        self.frames = int(self.world.duration * fps)

    def __iter__(self) -> Iterator[ClipFrame]:
        for index in range(int(self.world.duration * self.fps)):
            yield ClipFrame(self.stamp_ns(index), self.world.frame(index / self.fps))


class BagSource:
    """One image topic of a recording; stamps are those of the headers, or of the recording where a header has none."""

    own_stamps = True

    def __init__(self, path: Path, topic: str) -> None:
        self.path, self.topic, self.skipped = path, topic, 0
        with self._reader() as reader:
            found = sorted({c.topic: c for c in reader.connections if c.msgtype in IMAGE_TYPES}.items())
            self.topic = _choose(path, topic, [name for name, _ in found], [c.topic for c in reader.connections])
            connections = [c for c in reader.connections if c.topic == self.topic]
            self.frames: int | None = sum(c.msgcount for c in connections)
            first = next(reader.messages(connections), None)
            if first is None:
                raise SourceError(f"topic {self.topic} of {path} holds no message")
            self.frame_id: str = reader.deserialize(first[2], first[0].msgtype).header.frame_id
        self.title = f"{path.name} {self.topic}"

    def _reader(self) -> closing[Any]:
        try:
            from rosbags.highlevel import AnyReader, AnyReaderError
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise SourceError(f"reading a rosbag2 needs the package rosbags: pip install rosbags ({error})") from None
        try:
            reader = AnyReader([self.path], default_typestore=get_typestore(Stores.LATEST))
            reader.open()
        except (AnyReaderError, OSError) as error:
            raise SourceError(f"{self.path} cannot be read as a rosbag2: {error}") from error
        return closing(reader)

    def __iter__(self) -> Iterator[ClipFrame]:
        from rosbags.highlevel import AnyReaderError

        self.skipped, seen, last_error = 0, 0, None
        with self._reader() as reader:
            connections = [c for c in reader.connections if c.topic == self.topic]
            for connection, recorded_ns, raw in reader.messages(connections):
                try:
                    message = reader.deserialize(raw, connection.msgtype)
                    rgb = IMAGE_TYPES[connection.msgtype](message)
                except (BadImage, AnyReaderError) as error:
                    self.skipped, last_error = self.skipped + 1, error
                    continue
                seen, stamp = seen + 1, message.header.stamp
                yield ClipFrame(stamp.sec * SECOND + stamp.nanosec or recorded_ns, rgb)
        if not seen:
            raise SourceError(f"no image on {self.topic} of {self.path} can be shown: {last_error}")


def _choose(path: Path, asked: str, images: list[str], topics: list[str]) -> str:
    if asked:
        named = "/" + asked.lstrip("/")
        if named in images:
            return named
        raise SourceError(f"{path} has no image topic {named}; it has {', '.join(images) or 'no image topic at all'}")
    if not images:
        raise SourceError(
            f"{path} has no sensor_msgs/Image or CompressedImage topic; "
            f"its topics are {', '.join(sorted(set(topics))) or 'none'}"
        )
    if len(images) > 1:
        raise SourceError(f"{path} has several image topics: choose one with --bag-topic: {', '.join(images)}")
    return images[0]
