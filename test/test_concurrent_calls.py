"""200 calls of /ask_scene at once from four processes: each gets a reply, on either runtime."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Process, wait_until
from robot import START_S, NodeProcess, Robot

from flash_vstream_ros.engine.answering.question import ErrorCode

pytestmark = pytest.mark.slow  # starts nodes in processes of their own

PROCESSES, CALLS = 4, 50

CLIENT = """
import json, os, sys, time
from flash_vstream_ros.client import AskClient
name, calls = sys.argv[1], int(sys.argv[2])
with AskClient(name) as client:
    assert client.service.wait_for_service(timeout_sec=60.0)
    print("ready", flush=True)
    while not os.path.exists(sys.argv[3]):
        client.spin(0.05)
    futures = [client.service.call_async(client.request(f"question {number}?")) for number in range(calls)]
    until = time.monotonic() + 120.0
    while not all(future.done() for future in futures) and time.monotonic() < until:
        client.spin(0.1)
    print("codes", json.dumps([future.result().error_code if future.done() else -1 for future in futures]), flush=True)
"""


def test_each_of_200_concurrent_calls_gets_a_reply(tmp_path: Path, start: Callable[..., Process]) -> None:
    with NodeProcess(tmp_path) as node, Robot(node.namespace) as robot:
        robot.wait_until_ready()
        robot.see(range(1, 11))
        service = f"{node.namespace}/ask_scene"
        go = tmp_path / "go"
        clients = [start(CLIENT, service, str(CALLS), str(go)) for _ in range(PROCESSES)]
        for client in clients:
            client.expect("ready", START_S)
        go.touch()
        for client in clients:
            assert client.wait(START_S) == 0, client.stderr
        printed = [line.partition(" ")[2] for client in clients for line in client.lines if line.startswith("codes")]
        codes = Counter(code for line in printed for code in json.loads(line))
        assert sum(codes.values()) == PROCESSES * CALLS
        assert set(codes) <= {ErrorCode.NONE, ErrorCode.BUSY}, codes
        assert codes[ErrorCode.NONE] > 0
        assert wait_until(lambda: robot.ask(robot.request("Still there?")).error_code == ErrorCode.NONE)
        assert "replies lost" not in node.log
        assert "requests dropped" not in node.log
