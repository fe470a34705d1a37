"""Frames and poses of CODa as ReMEmbR's preprocessing stores them: a folder of pickles, each named by its time [s]."""

from __future__ import annotations

import pickle
import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .item import DataError

if TYPE_CHECKING:
    import numpy as np

    from flash_vstream_ros.memory.pose import MaybePose

MAP = "map"
_TIME = re.compile(r"\d+(\.\d+)?")
# All that a pickle of arrays, numbers and dictionaries needs. Anything else could run code.
_MODULES = {"numpy", *(f"numpy.{core}.{part}" for core in ("core", "_core") for part in ("multiarray", "numeric"))}
_NAMES = {"ndarray", "dtype", "scalar", "_reconstruct", "_frombuffer"}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _MODULES and name in _NAMES:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it contains {module}.{name}")


class CodaFrames:
    """The frames of one sequence. Stamps are times since its first frame [ns]."""

    def __init__(self, folder: Path) -> None:
        times = frame_times(folder)
        first_s = min(times, default=0.0)
        self._paths = {round((time_s - first_s) * 1e9): path for time_s, path in times.items()}

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        return self.since(0.0)

    def since(self, start_s: float) -> Iterator[tuple[int, np.ndarray]]:
        """The frames from `start_s` on. Raises DataError."""
        for stamp_ns, path in self._paths.items():
            if stamp_ns >= start_s * 1e9:
                yield stamp_ns, self._image(path)

    def pose(self, stamp_ns: int) -> MaybePose:
        """The pose at the newest frame up to this stamp; unknown if its file has none. Raises DataError."""
        from flash_vstream_ros.memory.pose import BadPose, Pose, UnknownPose, checked_pose  # not for `--help`: torch

        newest = list(self._paths)[bisect_right(list(self._paths), stamp_ns) - 1]
        fields = _read(self._paths[newest])
        try:
            x, y, z = map(float, fields["position"])
            qx, qy, qz, qw = map(float, fields["rotation"])
            return checked_pose(Pose((x, y, z), (qx, qy, qz, qw), MAP, stamp_ns=stamp_ns))
        except (KeyError, TypeError, ValueError) as error:
            return UnknownPose(error.reason if isinstance(error, BadPose) else "no_pose")

    def _image(self, path: Path) -> np.ndarray:
        import numpy as np  # here, since `evaluate --help` lists the benchmarks

        image = _read(path).get("cam0")
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DataError(f"{path} has no cam0 that is an image [height, width, 3] of uint8")
        return np.ascontiguousarray(image[..., ::-1])  # stored as OpenCV reads them


def frame_times(folder: Path) -> dict[float, Path]:
    """The files of a sequence by their times [s], in order. Raises DataError."""
    files = list(folder.glob("*.pkl"))
    if unnamed := [path for path in files if not _TIME.fullmatch(path.stem)]:
        raise DataError(f"{unnamed[0]} is not named by a time in seconds")
    return dict(sorted((float(path.stem), path) for path in files))


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            fields = _ArraysOnly(file).load()
    except Exception as error:  # damaged pickles raise errors of any type
        raise DataError(f"{path} is no pickle of arrays: {error}") from error
    if not isinstance(fields, dict):
        raise DataError(f"{path} has no dictionary")
    return fields
