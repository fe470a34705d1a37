"""Region: where the slots of a recording lie in the maps of a robot, and the circle that a question is limited to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from .pose import MaybePose, Pose

MAX_BOXES = 8  # of a region; if there are more positions, near ones share a box


class Box(NamedTuple):
    """A rectangle in the horizontal plane of one map [m]."""

    frame_id: str
    map_id: str
    min_x: float
    min_y: float
    max_x: float
    max_y: float

    def distances(self, x: float, y: float) -> tuple[float, float]:
        """Squared distances from a point to the nearest and to the farthest point of the box [m^2]."""
        nearest = min(max(x, self.min_x), self.max_x), min(max(y, self.min_y), self.max_y)
        farthest = (
            self.min_x if x - self.min_x > self.max_x - x else self.max_x,
            self.min_y if y - self.min_y > self.max_y - y else self.max_y,
        )
        return squared_distance(*nearest, x, y), squared_distance(*farthest, x, y)

    def union(self, other: Box) -> Box:
        """The smallest box that contains both, which are in the same map."""
        lows, highs = map(min, self[2:4], other[2:4]), map(max, self[4:], other[4:])
        return Box(*self[:2], *lows, *highs)

    @property
    def diagonal_m(self) -> float:
        return math.hypot(self.max_x - self.min_x, self.max_y - self.min_y)


class Region(NamedTuple):
    """At most MAX_BOXES boxes that contain every known position of some slots."""

    boxes: tuple[Box, ...] = ()
    is_complete: bool = False  # True: the positions of all slots are known
    is_anywhere: bool = False  # True: some positions lie in other maps, which are not recorded

    @classmethod
    def of(cls, pose: MaybePose) -> Region:
        """The region of one slot."""
        if not isinstance(pose, Pose):
            return NOWHERE
        x, y, _ = pose.position
        return cls((Box(pose.frame_id, pose.map_id, x, y, x, y),), True)

    @classmethod
    def union(cls, regions: Iterable[Region]) -> Region:
        """The region of all slots of `regions`."""
        parts = list(regions)
        boxes = sorted({box for region in parts for box in region.boxes})
        is_anywhere = any(region.is_anywhere for region in parts)
        while len(boxes) > MAX_BOXES:
            places = [place for place, (one, next_one) in enumerate(pairwise(boxes)) if one[:2] == next_one[:2]]
            if not places:  # as many maps
                is_anywhere = True
                del boxes[MAX_BOXES:]
                break
            at = min(places, key=lambda place: boxes[place].union(boxes[place + 1]).diagonal_m)
            boxes[at : at + 2] = [boxes[at].union(boxes[at + 1])]
        is_complete = not is_anywhere and all(region.is_complete for region in parts)
        return cls(tuple(boxes), is_complete, is_anywhere)

    @classmethod
    def grown(cls, pose: MaybePose, static_region: Region | None) -> Region:
        """The region of one slot and of the static slots after it; None: there are none."""
        own = cls.of(pose)
        return own if static_region is None else cls.union((own, static_region))

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> Region:
        """The region that JSON has made a list of. Raises TypeError or ValueError for other values."""
        boxes, is_complete, is_anywhere = values
        read = (Box(str(frame_id), str(map_id), *map(float, sides)) for frame_id, map_id, *sides in boxes)
        return cls(tuple(read), bool(is_complete), bool(is_anywhere))

    def spread_m(self, pose: MaybePose) -> float:
        """Upper limit of the horizontal distance from `pose` to the known positions in its map [m]; 0: none known."""
        if not isinstance(pose, Pose):
            return 0.0
        x, y, _ = pose.position
        own = (box for box in self.boxes if box[:2] == (pose.frame_id, pose.map_id))
        return max((math.sqrt(box.distances(x, y)[1]) for box in own), default=0.0)


NOWHERE = Region()  # no position is known


class Near(NamedTuple):
    """A circle in the horizontal plane of one map [m]."""

    x: float
    y: float
    radius: float
    frame_id: str
    map_id: str = ""

    def touches(self, region: Region) -> bool:
        """Returns True if any known position of `region` may lie inside."""
        return region.is_anywhere or any(self._distances(box)[0] <= self.radius**2 for box in region.boxes)

    def covers(self, region: Region) -> bool:
        """Returns True if all positions of `region` are known and lie inside."""
        return region.is_complete and all(self._distances(box)[1] <= self.radius**2 for box in region.boxes)

    def _distances(self, box: Box) -> tuple[float, float]:
        return box.distances(self.x, self.y) if box[:2] == (self.frame_id, self.map_id) else (math.inf, math.inf)


def squared_distance(x: float, y: float, other_x: float, other_y: float) -> float:
    """Squared distance of two points [m^2]."""
    return (x - other_x) * (x - other_x) + (y - other_y) * (y - other_y)
