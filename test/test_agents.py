"""Agents use a node's memory through the Model Context Protocol, as the SDK's own client speaks it."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT, wait_until
from robot import SECOND, START_S, Robot, new_namespace

pytest.importorskip("mcp", reason="the Model Context Protocol's SDK is not installed")

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from flash_vstream_ros.cli.agents.bounds import MAX_RESULT_CHARS, MAX_THUMBNAIL_BYTES, MAX_THUMBNAILS, THUMBNAIL_SIDE
from flash_vstream_ros.cli.agents.node_thread import NodeThread
from flash_vstream_ros.cli.agents.server import agent_server, http_server
from flash_vstream_ros.cli.agents.tools import SceneTools
from flash_vstream_ros.cli.http_server import listen
from flash_vstream_ros.client import AskClient
from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.scoring import right
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.instruments.running_node import running_node
from flash_vstream_ros.models.household_settings import FRAME_S
from flash_vstream_ros.models.model_kind import without_label
from flash_vstream_ros.node.vstream_node import VStreamNode
from flash_vstream_ros.ros.images import from_rgb
from flash_vstream_ros.ros.interfaces import Image

pytestmark = pytest.mark.slow  # starts a node and plays a patrol

SEED, MINUTES, START = 300_001, 1.0, 1000.0
ASKED, RIGHT = 6, 3  # questions of the agent, and how many it has to answer
READING = {"ask", "search", "where", "list", "report", "status", "watches"}
MAX_RESULT_BYTES = 500_000
TOKEN = "a-token-of-20-letters"


@pytest.fixture(scope="module")
def space() -> Iterator[str]:
    """The namespace of a node that has seen a patrol."""
    namespace = new_namespace()
    args = ["test", "--ros-args", "-r", f"__ns:={namespace}", "--params-file", str(ROOT / "config" / "household.yaml")]
    args += ["-p", "status.period_s:=0.05", "-p", "summary.period_s:=0.0"]
    world = World(SEED, MINUTES)
    with running_node(VStreamNode, args), Robot(namespace) as robot:
        robot.wait_until_ready()
        for second in np.arange(0.0, world.duration, FRAME_S):
            robot.show(from_rgb(world.frame(float(second)), round((START + second) * SECOND), "camera", Image))
        yield namespace


@pytest.fixture(scope="module")
def node(space: str) -> Iterator[NodeThread]:
    with AskClient(f"{space}/ask_scene", node_name=f"{space}/flash_vstream") as client, NodeThread(client) as thread:
        yield thread


@pytest.fixture
def tools(node: NodeThread) -> SceneTools:
    return SceneTools(node, START_S)


def call(server: Any, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
    """The result of one call by a client that connects for it."""

    async def connected() -> Any:
        async with Client(server) as client:
            return await client.call_tool(name, dict(arguments or {}))

    return asyncio.run(connected())


def fields(result: Any) -> dict[str, Any]:
    assert not result.is_error, result
    found = json.loads(result.content[0].text)
    assert isinstance(found, dict)
    return found


def sentence(result: Any) -> str:
    assert result.is_error, result
    return str(result.content[0].text)


def assert_bounded(result: Any) -> int:
    """The number of images of a result that keeps all bounds."""
    assert len(result.content[0].text) <= MAX_RESULT_CHARS
    assert len(result.model_dump_json()) <= MAX_RESULT_BYTES
    images = result.content[1:]
    assert len(images) <= MAX_THUMBNAILS
    for image in images:
        data = base64.b64decode(image.data)
        assert len(data) <= MAX_THUMBNAIL_BYTES
        assert max(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape) <= THUMBNAIL_SIDE
    return len(images)


def test_an_agent_answers_questions_about_the_house_by_tools_alone(tools: SceneTools) -> None:
    world = World(SEED, MINUTES)
    asked = questions(world.visits, world.duration, np.random.default_rng(SEED))
    first = {question.kind: question for question in reversed(asked)}

    async def agent() -> tuple[list[bool], Any]:
        async with Client(agent_server(tools)) as client:
            assert fields(await client.call_tool("status"))["state"] == "READY"
            marks = []
            for question in list(first.values())[:ASKED]:
                result = await client.call_tool("ask", {"question": question.text})
                marks.append(right(question, without_label(fields(result)["answer"])))
            return marks, result

    marks, last = asyncio.run(agent())
    assert len(marks) == ASKED, first.keys()
    assert sum(marks) >= RIGHT
    answer = fields(last)
    assert "simulator" in answer["model"]
    assert answer["evidence"][0]["images"] == [1]
    assert assert_bounded(last) == 2


def test_a_time_in_a_result_limits_the_next_call(tools: SceneTools) -> None:
    server = agent_server(tools)
    moments = fields(call(server, "search", {"text": "red ball", "top": 3, "thumbnails": 0}))["moments"]
    assert len(moments) == 3
    assert moments[0]["relevance"] >= moments[1]["relevance"]
    at = moments[0]["at"]
    assert START <= float(at) <= START + 60 * MINUTES + 60
    entries = fields(call(server, "list", {"since": at, "until": at, "cameras": ["camera"]}))["entries"]
    assert entries
    assert all(float(entry["since"]) <= float(at) <= float(entry["until"]) for entry in entries)
    assert len(entries) < len(fields(call(server, "list"))["entries"])


def test_where_gives_a_pose_or_why_there_is_none(tools: SceneTools) -> None:
    result = call(agent_server(tools), "where", {"text": "red ball"})
    place = fields(result)
    assert (place["pose_known"], place["pose_unknown"]) == (False, "no_source")
    assert place["moment"]["images"] == [1]
    assert assert_bounded(result) == 1


def test_results_of_a_node_are_bounded(tools: SceneTools) -> None:
    server = agent_server(tools)
    for name, arguments in (("list", {}), ("search", {"text": "a thing", "top": 64}), ("report", {"since": "-30s"})):
        assert assert_bounded(call(server, name, {**arguments, "thumbnails": MAX_THUMBNAILS})) <= MAX_THUMBNAILS
    assert assert_bounded(call(server, "list")) == 0
    assert "thumbnails" in sentence(call(server, "list", {"thumbnails": MAX_THUMBNAILS + 1}))


def test_the_server_only_reads_unless_it_may_forget(tools: SceneTools) -> None:
    async def offered(server: Any) -> list[Any]:
        async with Client(server) as client:
            return list((await client.list_tools()).tools)

    reading = asyncio.run(offered(agent_server(tools)))
    assert {tool.name for tool in reading} == READING
    assert all(tool.annotations.read_only_hint for tool in reading)
    before = fields(call(agent_server(tools), "list"))
    assert "forget" in sentence(call(agent_server(tools), "forget", {"since": "0.5"}))
    assert fields(call(agent_server(tools), "list")) == before

    forgetful = agent_server(tools, {"allow_forget"})
    every = asyncio.run(offered(forgetful))
    assert {tool.name for tool in every} == READING | {"forget"}
    assert all("untrusted scene text" in tool.description for tool in every)
    assert "give cameras, since, until or near" in sentence(call(forgetful, "forget"))
    assert fields(call(forgetful, "forget", {"until": START + 9}))["slots"] > 0
    assert fields(call(agent_server(tools), "list")) != before


def test_the_server_watches_only_if_it_may(tools: SceneTools) -> None:
    added = {"text": "Did you see a person?", "period_s": 60.0}
    assert "add_watch" in sentence(call(agent_server(tools), "add_watch", added))
    server = agent_server(tools, {"allow_watch"})
    watch_id = fields(call(server, "add_watch", added))["watch_id"]
    (watch,) = fields(call(server, "watches"))["watches"]
    assert (watch["watch_id"], watch["text"]) == (watch_id, added["text"])
    assert fields(call(server, "remove_watch", {"watch_id": watch_id})) == {"watch_id": watch_id}
    assert fields(call(server, "watches")) == {"watches": []}
    assert "no watch with the id" in sentence(call(server, "remove_watch", {"watch_id": watch_id}))


def test_errors_of_the_node_are_tool_errors_with_its_sentence(tools: SceneTools) -> None:
    server = agent_server(tools)
    assert "unknown camera left" in sentence(call(server, "ask", {"question": "what?", "cameras": ["left"]}))
    assert "since is later than until" in sentence(call(server, "search", {"text": "ball", "since": 9, "until": 8}))
    assert "no point in time" in sentence(call(server, "list", {"since": "soon"}))
    assert "empty" in sentence(call(server, "ask", {"question": " "}))


def test_a_call_without_a_node_says_so() -> None:
    nowhere = new_namespace()
    with AskClient(f"{nowhere}/ask_scene", node_name=f"{nowhere}/flash_vstream") as client, NodeThread(client) as node:
        server = agent_server(SceneTools(node, 0.1))
        assert "flash-vstream-ros node" in sentence(call(server, "ask", {"question": "what?"}))
        assert "no node publishes" in sentence(call(server, "status"))


def test_the_command_serves_a_client_on_its_standard_streams(space: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    words = ["-m", "flash_vstream_ros.cli", "mcp", "--node", f"{space}/flash_vstream", "--wait", str(START_S)]
    program = StdioServerParameters(command=sys.executable, args=words, env=environment)
    unreadable: list[Any] = []

    async def messages(message: Any) -> None:
        if isinstance(message, Exception):
            unreadable.append(message)

    async def connected() -> tuple[set[str], Any]:
        async with Client(program, message_handler=messages) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            return names, await client.call_tool("status")

    names, status = asyncio.run(connected())
    assert (names, fields(status)["state"], unreadable) == (READING, "READY", [])


@contextmanager
def served(tools: SceneTools, token: str) -> Iterator[int]:
    """The port of an HTTP server in a thread."""
    with listen("127.0.0.1", 0) as listener:
        server = http_server(agent_server(tools), listener, ["robot.local"], token)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert wait_until(lambda: server.started)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def status_of(port: int, headers: Mapping[str, str]) -> int:
    """HTTP status of the first request of a client."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
    body["params"] = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    accept = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    connection.request("POST", "/mcp", json.dumps(body), {**accept, **headers})
    status = connection.getresponse().status
    connection.close()
    return status


def test_http_serves_clients_with_the_token_and_refuses_foreign_headers(tools: SceneTools) -> None:
    allowed = {"Authorization": f"Bearer {TOKEN}"}

    async def connected(url: str) -> Any:
        async with (
            httpx2.AsyncClient(headers=allowed, timeout=START_S) as web,
            Client(streamable_http_client(url, http_client=web)) as client,
        ):
            return await client.call_tool("list", {"thumbnails": MAX_THUMBNAILS})

    with served(tools, TOKEN) as port:
        assert assert_bounded(asyncio.run(connected(f"http://127.0.0.1:{port}/mcp"))) == MAX_THUMBNAILS
        own = {**allowed, "Host": f"robot.local:{port}", "Origin": f"http://localhost:{port}"}
        assert status_of(port, own) == 200
        assert status_of(port, {}) == status_of(port, {"Authorization": f"Bearer {TOKEN}x"}) == 401
        assert status_of(port, {**allowed, "Host": "evil.example"}) == 421
        assert status_of(port, {**allowed, "Origin": "http://evil.example"}) == 403
        assert status_of(port, {**allowed, "Origin": f"http://127.0.0.1.evil.example:{port}"}) == 403
        assert status_of(port, {**allowed, "Origin": "null"}) == 403
