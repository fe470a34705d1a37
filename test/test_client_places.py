"""The place that clients take from a search is one of the robot's present map, or none."""

from __future__ import annotations

import pytest

from flash_vstream_ros.client import MapName, place_in
from flash_vstream_ros.ros.interfaces import MemoryEntry

HERE, BEFORE, ODOM = MapName("map", "upstairs"), MapName("map", "ground"), MapName("odom", "upstairs")


def moment(relevance: float, seen_in: MapName | None, x: float = 1.5) -> MemoryEntry:
    """A moment with a pose in a map; None: its pose is unknown."""
    if seen_in is None:
        return MemoryEntry(relevance=relevance, pose_unknown="late")
    entry = MemoryEntry(relevance=relevance, pose_known=True, map_id=seen_in.map_id, pose_spread=2.0)
    entry.pose.header.frame_id, entry.pose.pose.pose.position.x = seen_in.frame_id, x
    return entry


@pytest.mark.parametrize(
    ("moments", "best"),
    [
        ([(0.4, HERE), (0.3, BEFORE)], 0),
        ([(0.4, BEFORE), (0.3, HERE)], 1),
        ([(0.4, ODOM), (0.3, None), (0.25, HERE), (0.25, HERE)], 2),
    ],
)
def test_a_place_is_that_of_the_best_relevant_moment_of_the_present_map(
    moments: list[tuple[float, MapName | None]], best: int
) -> None:
    messages = [moment(*each) for each in moments]
    place = place_in(HERE, messages)
    assert place.moment is messages[best]
    assert (place.is_best, place.why_unknown) == (best == 0, "")


@pytest.mark.parametrize("other", [BEFORE, ODOM])
@pytest.mark.parametrize("following", [[], [(0.1, HERE)]])  # too little relevance
def test_a_pose_of_another_map_is_left_out_and_a_sentence_says_so(
    other: MapName, following: list[tuple[float, MapName | None]]
) -> None:
    messages = [moment(0.4, None), moment(0.3, other), *(moment(*each) for each in following)]
    found, is_best, why = place_in(HERE, messages)
    assert (found.pose_known, found.pose_unknown, found.pose_spread, is_best) == (False, "other_map", 0.0, False)
    assert (found.pose.header.frame_id, found.pose.pose.pose.position.x) == ("", 0.0)
    assert f"seen best in the map {other}" in why
    assert f"now in the map {HERE}" in why
    assert messages[1].pose_known, "the reply is not changed"


def test_without_any_pose_the_best_moment_tells_why() -> None:
    messages = [moment(0.4, None), moment(0.1, BEFORE)]
    place = place_in(HERE, messages)
    assert (place.moment is messages[0], place.is_best) == (True, True)
    assert "no relevant moment has a pose" in place.why_unknown
