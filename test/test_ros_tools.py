"""What RViz, rqt and Foxglove show: markers of places, and the topics and services in their configuration files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from flash_vstream_ros.memory.pose import IDENTITY, NO_POSE, Pose
from flash_vstream_ros.memory.slot import EntryKind, MemoryEntry
from flash_vstream_ros.node.parameter_table import PARAMETERS
from flash_vstream_ros.node.place_markers import marker_array_type, place_markers

ROOT = Path(__file__).parents[1]
OF_OTHERS = {"/map"}  # of Nav2
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


def camera_topic() -> str:
    """The topic of the camera in the commands of the README."""
    (topic,) = set(re.findall(r"image_topic:=(\S+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    return str(topic)


def fields_of(file: str) -> set[str]:
    """The fields of a message, or of the request of a service."""
    request = (ROOT / file).read_text(encoding="utf-8").partition("\n---\n")[0]
    return {line.split()[1] for line in request.splitlines() if line.strip() and not line.startswith("#")}


def rviz() -> dict[str, Any]:
    tree = yaml.safe_load((ROOT / "config" / "vstream.rviz").read_text(encoding="utf-8"))
    return dict(tree["Visualization Manager"])


def foxglove() -> dict[str, Any]:
    return dict(json.loads((ROOT / "config" / "foxglove.json").read_text(encoding="utf-8")))


def test_the_launch_file_of_a_camera_uses_the_topic_of_the_readme() -> None:
    source = (ROOT / "launch" / "usb_cam.launch.py").read_text(encoding="utf-8")
    assert re.findall(r'IMAGE_TOPIC = "(\S+)"', source) == [camera_topic()]


def test_rviz_shows_the_memory_the_places_and_the_camera() -> None:
    displays = {each["Name"]: each for each in rviz()["Displays"]}
    assert len(displays) == len(rviz()["Displays"])
    assert all(each["Enabled"] is True for each in displays.values())
    shown = {name: (each["Class"], each["Topic"]["Value"]) for name, each in displays.items() if "Topic" in each}
    assert shown == {
        "Map": ("rviz_default_plugins/Map", "/map"),
        "Places": ("rviz_default_plugins/MarkerArray", "/flash_vstream/places"),
        "Memory": ("rviz_default_plugins/Image", "/flash_vstream/memory_view/compressed"),
        "Camera": ("rviz_default_plugins/Image", camera_topic()),
    }
    assert {"/flash_vstream/places", "/flash_vstream/memory_view/compressed"} <= OFFERED
    (frame,) = [spec.default for spec in PARAMETERS if spec.name == "pose.fixed_frame"]
    assert rviz()["Global Options"]["Fixed Frame"] == frame


@pytest.mark.parametrize("display", [each for each in rviz()["Displays"] if "Topic" in each], ids=lambda it: it["Name"])
def test_rviz_can_receive_each_topic(display: dict[str, Any]) -> None:
    topic = display["Topic"]
    assert topic.keys() == {"Value", "Depth", "Durability Policy", "History Policy", "Reliability Policy"}
    assert topic["Depth"] > 0
    assert topic["History Policy"] == "Keep Last"
    # Maps are latched. The publisher of the camera is unknown: best effort receives from any, reliable does not.
    assert topic["Durability Policy"] == ("Transient Local" if display["Name"] == "Map" else "Volatile")
    assert topic["Reliability Policy"] == ("Best Effort" if display["Name"] == "Camera" else "Reliable")


def test_foxglove_shows_topics_and_services_that_the_node_has() -> None:
    panels = foxglove()["configById"]
    named = set(re.findall(r"/[a-z_/]+", json.dumps(panels)))
    assert named - OF_OTHERS - {camera_topic()} <= OFFERED
    assert panels["Image!camera"]["imageMode"]["imageTopic"] == camera_topic()
    assert panels["Image!memory"]["imageMode"]["imageTopic"] == "/flash_vstream/memory_view/compressed"
    assert panels["3D!places"]["topics"]["/flash_vstream/places"] == {"visible": True}


def test_foxglove_names_fields_that_the_messages_have() -> None:
    panels = foxglove()["configById"]
    ask = panels["CallService!ask"]
    assert ask["serviceName"] == "/ask_scene"
    assert json.loads(ask["requestPayload"]).keys() <= fields_of("srv/AskScene.srv")
    assert panels["RawMessages!summary"]["topicPath"].split(".")[1] in fields_of("msg/SceneSummary.msg")
    plotted = {line["value"].split(".")[1] for line in panels["Plot!frames"]["paths"]}
    assert plotted == {"frames_received", "frames_encoded", "frames_dropped"}
    assert plotted <= fields_of("msg/MemoryStatus.msg")


def panels_in(layout: str | dict[str, Any]) -> list[str]:
    """The panels of a tree of splits, which is checked."""
    if isinstance(layout, str):
        return [layout]
    assert layout.keys() - {"splitPercentage"} == {"direction", "first", "second"}
    assert layout["direction"] in ("row", "column")
    assert 0 < layout.get("splitPercentage", 50) < 100
    return [*panels_in(layout["first"]), *panels_in(layout["second"])]


def test_foxglove_places_each_panel_once() -> None:
    layout = foxglove()
    assert {"configById", "globalVariables", "userNodes", "layout"} == layout.keys()
    assert all(re.fullmatch(r"[A-Z0-9]\w+!\w+", name) for name in layout["configById"])
    assert sorted(panels_in(layout["layout"])) == sorted(layout["configById"])
