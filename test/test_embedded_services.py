"""Services between processes: many clients, clients that die, bad text, servers that do not exist."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("cyclonedds")

from conftest import PATIENCE, reply_of, wait_until

from flash_vstream_ros.client import AskClient, NoService
from flash_vstream_ros.ros import MultiThreadedExecutor, Node, QoSProfile, ReentrantCallbackGroup
from flash_vstream_ros.ros.embedded import service as embedded_service
from flash_vstream_ros.ros.embedded.cdr import SERVICE_HEADER, serialize
from flash_vstream_ros.ros.embedded.cyclone import matched_reader
from flash_vstream_ros.ros.embedded.graph import Endpoint
from flash_vstream_ros.ros.embedded.service import Service
from flash_vstream_ros.ros.embedded.task import Future
from flash_vstream_ros.ros.interfaces import AskScene, MemoryEntry, interface
from flash_vstream_ros.ros.service_peers import VENDORS, own_vendor, why_unanswerable

Trigger = interface("std_srvs/srv/Trigger")

SERVER = """
import time
from flash_vstream_ros.ros import *
from flash_vstream_ros.ros.interfaces import AskScene, MemoryEntry
init()
node = Node("server")
def answer(request, response):
    if request.question == "slowly":
        time.sleep(1.0)
    response.answer = "you asked " + request.question
    response.evidence = [MemoryEntry(camera=name) for name in request.cameras]
    return response
node.create_service(AskScene, "ask_scene", answer, callback_group=ReentrantCallbackGroup())
executor = MultiThreadedExecutor(4)
executor.add_node(node)
print("up")
try:
    executor.spin()
except (KeyboardInterrupt, ExternalShutdownException):
    pass
"""

CLIENT = """
import sys
from flash_vstream_ros.ros import *
from flash_vstream_ros.ros.interfaces import AskScene
init()
node = Node("client" + sys.argv[1])
client = node.create_client(AskScene, "ask_scene")
executor = SingleThreadedExecutor()
executor.add_node(node)
assert client.wait_for_service(60.0)
print("asking")
for number in range(20):
    question = sys.argv[2] if len(sys.argv) > 2 else f"{sys.argv[1]} {number}"
    future = client.call_async(AskScene.Request(question=question))
    executor.spin_until_future_complete(future, timeout_sec=60.0)
    assert future.result().answer == "you asked " + question, future.result()
print("all answered")
"""


@pytest.fixture
def node(ros):
    made = Node("tester", start_parameter_services=False)
    executor = MultiThreadedExecutor(2)
    executor.add_node(made)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    yield made
    executor.shutdown()
    thread.join()
    made.destroy_node()


def test_a_request_reaches_another_process_and_its_reply_comes_back(node, start):
    start(SERVER).expect("up")
    client = node.create_client(AskScene, "ask_scene")
    assert client.wait_for_service(PATIENCE)
    response = reply_of(client, AskScene.Request(question="Wo?", cameras=["front", "rear"]))
    assert response.answer == "you asked Wo?"
    assert [entry.camera for entry in response.evidence] == ["front", "rear"]
    assert isinstance(response.evidence[0], MemoryEntry)


def test_every_concurrent_client_gets_its_own_answers(start):
    start(SERVER).expect("up")
    clients = [start(CLIENT, str(number)) for number in range(3)]
    for client in clients:
        client.expect("all answered", timeout=3 * PATIENCE)
        assert client.wait() == 0


def test_a_killed_client_does_not_disturb_the_others(node, start):
    start(SERVER).expect("up")
    doomed = start(CLIENT, "doomed", "slowly")
    doomed.expect("asking")
    doomed.kill()
    client = node.create_client(AskScene, "ask_scene")
    assert client.wait_for_service(PATIENCE)
    for number in range(5):
        response = reply_of(client, AskScene.Request(question=str(number)))
        assert response.answer == f"you asked {number}"


def test_a_question_that_is_not_utf_8_is_answered(node, start):
    start(SERVER).expect("up")
    client = node.create_client(AskScene, "ask_scene")
    assert client.wait_for_service(PATIENCE)
    assert reply_of(client, AskScene.Request(question="first")).answer == "you asked first"
    raw = serialize(AskScene.Request(question="who XY?"), SERVICE_HEADER.pack(client.writer.handle, 77))
    waiting = client._pending[77] = Future()
    assert client.writer.write(bytearray(bytes(raw).replace(b"XY", b"\xff\xfe")))
    assert wait_until(waiting.done)
    assert waiting.result().answer == "you asked who ???"


def test_replies_wait_for_a_client_that_discovery_finds_late(node, monkeypatch):
    found = threading.Event()
    known = Service._reply_reader_exists
    monkeypatch.setattr(embedded_service, "MATCH_TIMEOUT", PATIENCE)
    monkeypatch.setattr(Service, "_reply_reader_exists", lambda *given: found.is_set() and known(*given))
    service = node.create_service(Trigger, "early", lambda request, response: response)
    client = node.create_client(Trigger, "early", callback_group=ReentrantCallbackGroup())
    assert client.wait_for_service(PATIENCE)
    futures = [client.call_async(Trigger.Request()) for _ in range(3)]
    time.sleep(0.5)
    assert not any(future.done() for future in futures)
    found.set()
    assert wait_until(lambda: all(future.done() for future in futures))
    assert service.replies_lost == 0


def test_an_undiscovered_client_loses_only_its_own_replies(node, monkeypatch):
    monkeypatch.setattr(Service, "_reply_reader_exists", lambda *_: False)
    monkeypatch.setattr(embedded_service, "MATCH_TIMEOUT", 0.2)
    service = node.create_service(Trigger, "early", lambda request, response: response)
    client = node.create_client(Trigger, "early", callback_group=ReentrantCallbackGroup())
    assert client.wait_for_service(PATIENCE)
    lost = [client.call_async(Trigger.Request()) for _ in range(2)]
    assert wait_until(lambda: service.replies_lost == 2)
    monkeypatch.undo()
    assert reply_of(client, Trigger.Request()) is not None
    assert not any(future.done() for future in lost)


def test_waiting_for_a_service_that_does_not_exist_ends_in_time(node):
    client = node.create_client(Trigger, "nobody")
    assert not client.service_is_ready()
    begin = time.monotonic()
    assert not client.wait_for_service(timeout_sec=0.3)
    assert 0.25 < time.monotonic() - begin < PATIENCE


def test_a_call_that_is_cancelled_is_forgotten_and_its_late_reply_ignored(node):
    release = threading.Event()

    def answer(request, response):
        release.wait(PATIENCE)
        return response

    node.create_service(Trigger, "stuck", answer)
    client = node.create_client(Trigger, "stuck", callback_group=ReentrantCallbackGroup())
    assert client.wait_for_service(PATIENCE)
    cancelled, other = (client.call_async(Trigger.Request()) for _ in range(2))
    assert cancelled.cancel()
    assert len(client._pending) == 1
    release.set()
    assert wait_until(other.done)
    assert cancelled.result() is None
    client._complete(cancelled, memoryview(b""))  # its reply had been taken before it was cancelled
    assert cancelled.result() is None


def test_a_request_of_another_type_is_refused(node):
    client = node.create_client(Trigger, "typed")
    with pytest.raises(TypeError, match="Trigger_Request"):
        client.call_async(AskScene.Request())


def test_a_service_whose_node_is_destroyed_is_no_longer_ready(node):
    server = Node("server", start_parameter_services=False)
    server.create_service(Trigger, "brief", lambda request, response: response)
    client = node.create_client(Trigger, "brief")
    assert client.wait_for_service(PATIENCE)
    server.destroy_node()
    assert wait_until(lambda: not client.service_is_ready())


def server_elsewhere(node, service, vendor):
    """Discovery of the reply topic of a server with another middleware."""
    graph, gid = node.context.graph, vendor + bytes(14)
    endpoint = Endpoint(gid, f"rr/{service}Reply", "std_srvs::srv::dds_::Trigger_Response_", QoSProfile(depth=1), "")
    graph._endpoints["writer"][gid] = endpoint


def test_a_service_of_another_middleware_is_reported(node):
    assert why_unanswerable(node, "far") == ""
    server_elsewhere(node, "far", b"\x01\x0f")
    reason = why_unanswerable(node, "far")
    assert "/far is offered on Fast DDS only" in reason
    assert "rmw_cyclonedds_cpp" in reason
    assert "~/question" in reason
    client = AskClient("far")
    client.node, client.service = node, node.create_client(AskScene, "far")
    with pytest.raises(NoService, match="Fast DDS only"):
        client.ask_when_ready(AskScene.Request(question="?"), 0.1)


def test_a_service_with_one_server_of_this_middleware_is_answered(node):
    server_elsewhere(node, "both", b"\x01\x0f")
    node.create_service(Trigger, "both", lambda request, response: response)
    assert wait_until(lambda: why_unanswerable(node, "both") == "")


@pytest.mark.parametrize(
    ("rmw", "vendor"),
    [
        ("embedded", "Cyclone DDS"),
        ("rmw_cyclonedds_cpp", "Cyclone DDS"),
        ("rmw_fastrtps_cpp", "Fast DDS"),
        ("rmw_fastrtps_dynamic_cpp", "Fast DDS"),
        ("rmw_connextdds", "Connext DDS"),
        ("rmw_zenoh_cpp", None),
    ],
)
def test_the_vendor_of_a_middleware_is_recognised(rmw, vendor):
    assert VENDORS.get(own_vendor(rmw)) == vendor


def test_threads_read_the_data_of_peers_concurrently(node):
    service = node.create_service(AskScene, "looked_at", lambda request, response: response)
    clients = [node.create_client(AskScene, "looked_at") for _ in range(4)]
    writer = service.writer.entity
    assert wait_until(lambda: len(writer.get_matched_subscriptions()) == len(clients))
    truth = {handle: matched_reader(writer, handle) for handle in writer.get_matched_subscriptions()}
    assert len({peer.user_data["clientid"] for peer in truth.values()}) == len(clients)
    others = []

    def query_graph():
        for _ in range(100):
            others.extend(peer for handle, known in truth.items() if (peer := matched_reader(writer, handle)) != known)

    threads = [threading.Thread(target=query_graph) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not others
