"""What RViz, rqt and Foxglove show: markers of places, and the topics and services in their configuration files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from flash_vstream_ros.memory.pose import IDENTITY, NO_POSE, Pose
from flash_vstream_ros.memory.slot import EntryKind, MemoryEntry
from flash_vstream_ros.node.place_markers import marker_array_type, place_markers

ROOT = Path(__file__).parents[1]
OF_OTHERS = {"/map", "/goal_pose"}  # topics of Nav2
NODE_PAGE = (ROOT / "docs" / "reference" / "node.md").read_text(encoding="utf-8")
OFFERED = {
    "/" + name.removeprefix("/").replace("~", "flash_vstream")
    for name in re.findall(r"^\| `(\S+)` \(\w+\)", NODE_PAGE, re.MULTILINE)
}


@pytest.mark.skipif(marker_array_type() is None, reason="visualization_msgs is not installed")
def test_places_on_another_map_have_no_marker() -> None:
    pose = Pose((1.0, 2.0, 0.0), IDENTITY, "map", "ground", 1)
    entries = [
        MemoryEntry(EntryKind.DAM, "front", "", 1, 2, 1.0, b"", 2, pose=each)
        for each in (replace(pose, map_id="attic"), NO_POSE, pose)
    ]
    first, marker = place_markers(entries, "ground").markers
    assert first.action == first.DELETEALL
    assert (marker.ns, marker.type, marker.action) == ("front", marker.ARROW, marker.ADD)
    assert (marker.header.frame_id, marker.pose.position.x, marker.pose.position.y) == ("map", 1.0, 2.0)
    assert len(place_markers([], "ground").markers) == 1


def test_rviz_shows_topics_that_the_node_has() -> None:
    displays = yaml.safe_load((ROOT / "config" / "vstream.rviz").read_text(encoding="utf-8"))
    topics = {each["Topic"]["Value"] for each in displays["Visualization Manager"]["Displays"] if "Topic" in each}
    assert topics - OF_OTHERS <= OFFERED
    assert {"/flash_vstream/places", "/flash_vstream/memory_view/compressed", "/image"} <= topics


def test_foxglove_shows_topics_and_services_that_the_node_has() -> None:
    layout = json.loads((ROOT / "config" / "foxglove.json").read_text(encoding="utf-8"))
    panels = layout["configById"]
    named = set(re.findall(r"/[a-z_/]+", json.dumps(panels)))
    assert named - OF_OTHERS <= OFFERED
    assert "/ask_scene" in named
    assert set(re.findall(r"\w+!\w+", json.dumps(layout["layout"]))) == set(panels)
