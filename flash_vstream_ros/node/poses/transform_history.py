"""Received transforms of the last seconds: tells if tf2's pose at a stamp is interpolated across a jump or two maps.

tf2 interpolates each transform on the way between two frames alone, and its API does not show between which two.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

from flash_vstream_ros.memory.pose import Pose, Quaternion, Vector

from .pose_history import LENGTH_NS, discontinuity

MAX_TRANSFORMS = 4096  # of one frame
NORM_TOLERANCE = 0.01  # of the squared norm of a quaternion, as in tf2
MAX_DEPTH = 64  # of a tree of frames; a longer way is a loop
Locate = Callable[[str], Vector]  # position in a frame [m] of the frame whose pose is looked up


class Transform(NamedTuple):
    """Pose of the frame `child` in the frame `parent`. The stamp of a static transform is ignored."""

    stamp_ns: int
    parent: str
    child: str
    position: Vector  # [m]
    orientation: Quaternion  # x, y, z, w


class _Received(NamedTuple):
    transform: Transform
    map_id: str  # pose.map_id at its receipt


class TransformHistory:
    """Transforms by child frame, ordered by stamp. Thread safe."""

    def __init__(self, map_id: str) -> None:
        self.map_id = map_id  # of transforms from now on
        self._lock = threading.Lock()  # guards what follows
        self._parents: dict[str, str] = {}
        self._received: dict[str, list[_Received]] = {}

    def add(self, transform: Transform, is_static: bool) -> None:
        """Keep a transform, unless it is invalid or its stamp is there already: tf2 ignores it, too."""
        if not _is_accepted(transform):
            return
        with self._lock:
            self._parents[transform.child] = transform.parent
            if is_static:
                self._received.pop(transform.child, None)
                return
            received = self._received.setdefault(transform.child, [])
            place = bisect_left(received, transform.stamp_ns, key=_stamp)
            if place < len(received) and _stamp(received[place]) == transform.stamp_ns:
                return
            received.insert(place, _Received(transform, self.map_id))
            if len(received) > MAX_TRANSFORMS or _stamp(received[0]) < _stamp(received[-1]) - LENGTH_NS:
                del received[0]

    def check(self, target: str, source: str, stamp_ns: int, locate: Locate) -> tuple[str, str]:
        """The id of the map that the pose of `source` in `target` at a stamp belongs to, and "".

        If the pose is interpolated across a jump or a change of the map, a sentence takes the place of "". `locate`
        gives the position of `source` at that stamp.
        """
        with self._lock:
            around = list(self._around(target, source, stamp_ns))
        for before, after, is_inverse in around:
            if before is not after and before.transform.parent == after.transform.parent:
                point = locate(after.transform.parent if is_inverse else after.transform.child)
                one, other = (_moved(each, point, is_inverse) for each in (before, after))
                if sentence := discontinuity(one, other):
                    return after.map_id, sentence
        map_ids = {each.map_id for before, after, _ in around for each in (before, after)}
        if len(map_ids) > 1:
            return self.map_id, f"the transforms around a stamp are of several maps: {sorted(map_ids)}"
        return (map_ids.pop() if map_ids else self.map_id), ""

    def _around(self, target: str, source: str, stamp_ns: int) -> Iterator[tuple[_Received, _Received, bool]]:
        """The transforms before and after a stamp, of each moving frame on the way from `source` to `target`.

        With each pair: True if the way leads from the parent to the child.
        """
        up, down = self._ancestry(source), self._ancestry(target)
        for child in (*up, *down):
            received = self._received.get(child, [])
            place = bisect_left(received, stamp_ns, key=_stamp)
            if (child in up) != (child in down) and place < len(received):
                is_between = place > 0 and _stamp(received[place]) != stamp_ns
                yield received[place - is_between], received[place], child in down

    def _ancestry(self, frame: str) -> list[str]:
        """The frame, its parent, the parent of that, and so on."""
        found = [frame]
        while found[-1] in self._parents and len(found) < MAX_DEPTH:
            found.append(self._parents[found[-1]])
        return found


def _is_accepted(transform: Transform) -> bool:
    """Returns True if tf2 accepts the transform."""
    squared = sum(part * part for part in transform.orientation)
    is_finite = all(map(math.isfinite, transform.position)) and abs(squared - 1.0) <= NORM_TOLERANCE
    return is_finite and bool(transform.parent and transform.child) and transform.parent != transform.child


def _stamp(received: _Received) -> int:
    return received.transform.stamp_ns


def _moved(received: _Received, point: Vector, is_inverse: bool) -> Pose:
    """The pose of a point of the child frame in the parent frame, or the reverse."""
    transform = received.transform
    x, y, z, w = transform.orientation
    if is_inverse:
        shifted = (point[0] - transform.position[0], point[1] - transform.position[1], point[2] - transform.position[2])
        position = _rotated(shifted, (-x, -y, -z, w))
    else:
        turned, (a, b, c) = _rotated(point, transform.orientation), transform.position
        position = (turned[0] + a, turned[1] + b, turned[2] + c)
    return Pose(position, transform.orientation, transform.parent, received.map_id, transform.stamp_ns)


def _rotated(vector: Vector, orientation: Quaternion) -> Vector:
    """A vector rotated by a unit quaternion."""
    (x, y, z, w), (a, b, c) = orientation, vector
    s, t, u = (2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a))
    return (a + w * s + y * u - z * t, b + w * t + z * s - x * u, c + w * u + x * t - y * s)
