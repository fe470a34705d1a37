"""The moment of a search that tells best where something is, in the map that the robot is localised in."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, NamedTuple

MOMENTS = 5  # moments of a search among which the best place is looked for
LEAST_RELEVANCE = 0.5  # of a moment with a known pose, as a share of the best moment's relevance
OTHER_MAP = "other_map"  # as MemoryEntry.pose_unknown: a pose of another map than the present one
NO_POSE = "no relevant moment has a pose; see the parameters pose.* and docs/concepts/places.md"


class MapName(NamedTuple):
    """A map of the robot: the parameters pose.fixed_frame and pose.map_id."""

    frame_id: str
    map_id: str = ""

    def __str__(self) -> str:
        return f"{self.map_id!r} (frame {self.frame_id!r})"

    @classmethod
    def of(cls, moment: Any) -> MapName:
        """The map of a MemoryEntry's pose."""
        return cls(moment.pose.header.frame_id, moment.map_id)


class Place(NamedTuple):
    """The moment that tells best where something is."""

    moment: Any  # MemoryEntry; a pose of another map than the present one is left out
    is_best: bool  # False: moments of a higher relevance have no pose in the present map
    why_unknown: str  # a sentence; "": the pose is known in the present map


def place_in(present: MapName, moments: Sequence[Any]) -> Place:
    """The best of `moments` (MemoryEntry, best first, at least one) with a pose in the map `present`."""
    here = next((each for each in _relevant(moments) if each.pose_known and MapName.of(each) == present), None)
    if here is not None:
        return Place(here, here is moments[0], "")
    elsewhere = best_place(moments)
    if not elsewhere.pose_known:
        return Place(elsewhere, True, NO_POSE)
    sentence = (
        f"it was seen best in the map {MapName.of(elsewhere)}, but the robot is now in the map {present}, in which no "
        "relevant moment has a pose: there is no pose to drive to; set pose.map_id if both are the same map"
    )
    return Place(_without_pose(elsewhere), elsewhere is moments[0], sentence)


def best_place(moments: Sequence[Any]) -> Any:
    """The best of `moments` (MemoryEntry, best first) that has a known pose, in whatever map: `place_in` has a goal.

    It is the best moment of all if no other one with a pose is at least half as relevant: then its pose is unknown.
    """
    return next((each for each in _relevant(moments) if each.pose_known), moments[0])


def _relevant(moments: Sequence[Any]) -> list[Any]:
    """Those of `moments` whose relevance is comparable to the best one's."""
    return [each for each in moments if each.relevance >= LEAST_RELEVANCE * moments[0].relevance]


def _without_pose(moment: Any) -> Any:
    """The same moment with an unknown pose; it keeps the id of its map."""
    bare = copy(moment)
    bare.pose_known, bare.pose_unknown, bare.pose, bare.pose_spread = False, OTHER_MAP, type(moment.pose)(), 0.0
    return bare
