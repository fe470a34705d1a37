"""Opens a path as a frame source, depending on what it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

from .bag import BAG_SUFFIXES, STORAGE_SUFFIXES, BagSource, bag_path
from .demo import DemoSource
from .frame_source import DEFAULT_FPS, FrameSource, SourceError
from .image_folder import IMAGE_SUFFIXES, ImageFolderSource, image_files
from .video import VideoSource

# Files that may belong to a recording but cannot be read directly: what they are, and what to do.
UNREADABLE_SUFFIXES = {
    ".active": "a ROS 1 bag that is still being recorded or was cut off: run `rosbag reindex` and rename it to .bag",
    ".zstd": "compressed, without the metadata.yaml of its bag next to it: run `zstd -d` on it first",
    ".zst": "compressed: run `zstd -d` on it first",
    ".gz": "compressed: unpack it first",
    ".bz2": "compressed: unpack it first",
    ".xz": "compressed: unpack it first",
    ".zip": "an archive: unpack it first",
    ".tar": "an archive: unpack it first",
    ".tgz": "an archive: unpack it first",
    ".yaml": "not a recording: name the folder of the bag",
}


def open_source(
    path: str,
    *,
    bag_topic: str = "",
    fps: float = 0.0,
    base_ns: int = 0,
    log: Callable[[str], None] | None = None,
) -> FrameSource:
    """Open a path as a frame source.

    Args:
        path: a video file, an image file, a folder of image files, a bag, or `demo` / `demo:SEED`.
        bag_topic: image topic of a bag; needed if it has several.
        fps: frames per second of the stamps; 0: the times of the video, or 10 for images and the demo.
        base_ns: stamp of the first frame, for sources without their own stamps.
        log: gets a sentence when decoding has to choose, for example the range of 16-bit samples.

    Raises:
        SourceError: no such file, not decodable, empty, or no (single) image topic.
    """
    if fps < 0 or not math.isfinite(fps):
        raise SourceError(f"--fps is {fps:g}; expected a positive number")
    demo = re.fullmatch(r"demo(?::([0-9]{1,9}))?", path)
    if demo and not Path(path).exists():
        return DemoSource(int(demo[1] or 0), fps or DEFAULT_FPS, base_ns)
    place = Path(path).expanduser()
    try:
        return _open(place, bag_topic, fps, base_ns, log)
    except (OSError, ValueError) as error:  # no permission, or a name that is too long or has a zero byte
        raise SourceError(f"{place} cannot be opened: {error}") from error


def _open(place: Path, topic: str, fps: float, base_ns: int, log: Callable[[str], None] | None) -> FrameSource:
    if not place.exists():
        raise SourceError(f"{place} does not exist: give a video, a folder of images, a bag or demo")
    if not place.is_dir() and not place.is_file():
        raise SourceError(f"{place} is neither a file nor a folder: pipes and devices are not read")
    bag = bag_path(place)
    if bag is not None:
        return BagSource(bag, topic, log=log)
    if place.is_dir():
        files = image_files(place)
        if not files:
            kinds = ", ".join((*IMAGE_SUFFIXES, *STORAGE_SUFFIXES, *BAG_SUFFIXES))
            raise SourceError(f"{place} has no images and is no bag ({kinds})")
        return ImageFolderSource(place.name, files, fps, base_ns, log=log)
    suffix = place.suffix.lower()
    if suffix in UNREADABLE_SUFFIXES:
        raise SourceError(f"{place} is {UNREADABLE_SUFFIXES[suffix]}")
    if suffix in IMAGE_SUFFIXES:
        return ImageFolderSource(place.name, [place], fps, base_ns, log=log)
    return VideoSource(place, fps, base_ns)
