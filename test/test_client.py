"""The client of the node's services, with servers that never reply or are replaced."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from conftest import Process, wait_until

from flash_vstream_ros.client import AskClient, NoReply, Stopped
from flash_vstream_ros.ros.interfaces import interface

SERVICE = "/served/trigger"
START_S = 60.0
SERVER = """
import sys, time
from pathlib import Path
from flash_vstream_ros.ros import Node, SingleThreadedExecutor, init
from flash_vstream_ros.ros.interfaces import interface

def serve(_, response):
    response.success, response.message = True, sys.argv[1]
    return response

while len(sys.argv) > 3 and not Path(sys.argv[3]).exists():
    time.sleep(0.01)
init(args=[])
node = Node(sys.argv[1])
node.create_service(interface("std_srvs/srv/Trigger"), sys.argv[2], serve)
print("up", flush=True)
executor = SingleThreadedExecutor()
executor.add_node(node)
executor.spin()
"""


@pytest.fixture
def client() -> Iterator[AskClient]:
    with AskClient("/served/ask_scene") as client:
        yield client


def frozen(start: Callable[..., Process], client: AskClient, name: str) -> Any:
    """The client of a server that was found, and whose process stopped there: the graph lists it for a while."""
    server = start(SERVER, name, SERVICE)
    server.expect("up", START_S)
    service = client.node.create_client(interface("std_srvs/srv/Trigger"), SERVICE)
    assert service.wait_for_service(timeout_sec=START_S)
    # The graph knows the service before the name of its node.
    assert wait_until(lambda: name in dict(client.node.get_node_names_and_namespaces()), START_S)
    server.send(signal.SIGSTOP)
    return service


def test_the_error_for_a_missing_reply_names_the_service(start: Callable[..., Process], client: AskClient) -> None:
    service = frozen(start, client, "silent")
    with pytest.raises(NoReply, match=r"no reply from .*trigger within 2 s; offered by /silent"):
        client._reply(service, service.srv_type.Request(), 2.0)


def test_a_request_to_a_node_that_ended_is_sent_again_to_its_successor(
    start: Callable[..., Process], client: AskClient, tmp_path: Path
) -> None:
    begin = tmp_path / "begin"  # so that the successor is there before the client gives up
    start(SERVER, "successor", SERVICE, str(begin))
    service = frozen(start, client, "ghost")
    Timer(0.5, begin.touch).start()  # after the request
    assert client._reply(service, service.srv_type.Request(), 2 * START_S).message == "successor"


def test_another_thread_can_stop_a_call(start: Callable[..., Process], client: AskClient) -> None:
    service = frozen(start, client, "stopped")
    Timer(0.5, client.stop.set).start()
    with pytest.raises(Stopped):
        client._reply(service, service.srv_type.Request(), 10 * START_S)
