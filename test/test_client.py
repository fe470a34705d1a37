"""The client of the node's services, where a server has ended without a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import PATIENCE, wait_until
from robot import new_namespace

from flash_vstream_ros.client import AskClient

SERVER = """
import sys
from flash_vstream_ros.ros import Node, init, spin
from flash_vstream_ros.ros.interfaces import AskScene

def answer(request, response):
    response.answer = sys.argv[2]
    return response

init(args=[])
node = Node("server")
node.create_service(AskScene, sys.argv[1], answer)
print("up")
spin(node)
"""


@pytest.mark.slow
def test_a_question_to_a_node_that_was_killed_is_asked_of_its_successor(start: Callable[..., Any]) -> None:
    service = f"{new_namespace()}/ask_scene"
    with AskClient(service) as client:
        first = start(SERVER, service, "first")
        first.expect("up")
        assert client.ask_when_ready(client.request("who?"), PATIENCE).answer == "first"
        first.kill()
        assert client.service.service_is_ready()  # the middleware finds out later
        start(SERVER, service, "second")
        assert client.ask(client.request("who?")).answer == "second"


def test_a_question_is_asked_once_of_a_server_that_is_slow(start: Callable[..., Any]) -> None:
    service = f"{new_namespace()}/ask_scene"
    slow = SERVER.replace("response.answer", "print('asked'); import time; time.sleep(2); response.answer")
    with AskClient(service) as client:
        server = start(slow, service, "slow")
        server.expect("up")
        assert client.ask_when_ready(client.request("who?"), PATIENCE).answer == "slow"
        assert wait_until(lambda: server.lines == ["up", "asked"])
