"""Agents limit their tools to a place, as the SDK's own client calls them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from robot import START_S, NodeProcess

pytest.importorskip("mcp", reason="the Model Context Protocol's SDK is not installed")

from test_agents import call, fields, sentence
from test_node_poses import ARGS, Localised

from flash_vstream_ros.cli.agents.node_thread import NodeThread
from flash_vstream_ros.cli.agents.server import agent_server
from flash_vstream_ros.cli.agents.tools import SceneTools
from flash_vstream_ros.client import AskClient

pytestmark = pytest.mark.slow  # starts a node in a process of its own

FIRST, LAST = 11, 30  # stamps [s], and positions on the x axis [m]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The tools of a node whose robot has driven along the x axis, one metre per second."""
    with NodeProcess(tmp_path_factory.mktemp("places"), ARGS) as node, Localised(node.namespace) as robot:
        robot.wait_until_ready()
        robot.wait_for(lambda: robot.poses.get_subscription_count() > 0)
        robot.drive(FIRST, LAST)
        names = (f"{node.namespace}/ask_scene", f"{node.namespace}/flash_vstream")
        with AskClient(names[0], node_name=names[1]) as client, NodeThread(client) as thread:
            yield agent_server(SceneTools(thread, START_S), {"allow_forget"})


def stamps(rows: list[dict[str, Any]]) -> list[float]:
    assert rows
    return [float(row["at"]) for row in rows]


@pytest.mark.parametrize(
    ("tool", "asked", "rows"),
    [
        ("ask", {"question": "What is there?"}, "evidence"),
        ("search", {"text": "red ball"}, "moments"),
        ("list", {}, "entries"),
    ],
)
def test_a_tool_uses_only_what_was_seen_near_a_point(server: Any, tool: str, asked: dict[str, Any], rows: str) -> None:
    found = stamps(fields(call(server, tool, {**asked, "near": [20.0, 0.0], "radius": 2.5}))[rows])
    assert all(17.5 <= stamp <= 22.5 for stamp in found)
    by_default = stamps(fields(call(server, tool, {**asked, "near": [20, 0]}))[rows])
    assert all(18.0 <= stamp <= 22.0 for stamp in by_default)


def test_the_position_of_where_is_a_point_of_the_other_tools(server: Any) -> None:
    place = fields(call(server, "where", {"text": "red ball", "near": [20.0, 0.0], "radius": 2.5}))
    x, y, z = place["position_m"]
    assert 17.5 <= x <= 22.5
    entries = fields(call(server, "list", {"near": [x, y, z], "radius": 1.5}))["entries"]
    assert all(x - 1.5 <= stamp <= x + 1.5 for stamp in stamps(entries))
    every = fields(call(server, "list", {"near": []}))["entries"]
    assert len(stamps(entries)) < len(every)


def test_points_and_radii_that_make_no_circle_are_refused(server: Any) -> None:
    assert "near has one number" in sentence(call(server, "forget", {"near": [20.0]}))
    assert "near" in sentence(call(server, "list", {"near": [1.0, 2.0, 3.0, 4.0]}))
    for radius in (0.0, -1.0):
        assert "radius" in sentence(call(server, "forget", {"near": [20.0, 0.0], "radius": radius}))
    assert "give cameras, since, until or near" in sentence(call(server, "forget", {"near": [], "radius": 3.0}))


def test_an_agent_forgets_a_place(server: Any) -> None:
    assert fields(call(server, "forget", {"near": [14.0, 0.0], "radius": 2.0}))["slots"] > 0
    assert fields(call(server, "list", {"near": [14.0, 0.0], "radius": 2.0}))["entries"] == []
    assert fields(call(server, "list", {"near": [25.0, 0.0], "radius": 2.0}))["entries"]
