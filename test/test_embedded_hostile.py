"""Hostile peers: each bad input costs a counted message, bounded memory and time linear in its size."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cyclonedds")

from conftest import PATIENCE, reply_of, wait_until

from flash_vstream_ros.ros import (
    Context,
    MultiThreadedExecutor,
    Node,
    Parameter,
    ReentrantCallbackGroup,
    init,
    shutdown,
)
from flash_vstream_ros.ros.embedded import cdr, cyclone, dds_log, service
from flash_vstream_ros.ros.embedded.cdr import SERVICE_HEADER, deserialize, serialize
from flash_vstream_ros.ros.embedded.dds import Writer
from flash_vstream_ros.ros.embedded.graph import ENTITIES_INFO, LARGEST_ANNOUNCEMENT
from flash_vstream_ros.ros.embedded.qos import DurabilityPolicy, QoSProfile, to_dds
from flash_vstream_ros.ros.embedded.types import idl_type
from flash_vstream_ros.ros.interfaces import AskScene, String, interface

EntitiesInfo, NodeEntitiesInfo, Gid = (
    interface(name) for name in (ENTITIES_INFO, "rmw_dds_common/msg/NodeEntitiesInfo", "rmw_dds_common/msg/Gid")
)


@pytest.fixture
def node(ros: None) -> Iterator[Node]:
    made = Node("victim")
    executor = MultiThreadedExecutor(2)
    executor.add_node(made)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    yield made
    executor.shutdown()
    thread.join()
    made.destroy_node()


@pytest.fixture
def peer() -> Iterator[Context]:
    context = Context()
    init(args=[], context=context)
    yield context
    context.try_shutdown()


def announcement(participant: bytes, names: list[str]) -> bytearray:
    nodes = [NodeEntitiesInfo(node_namespace="/x", node_name=name) for name in names]
    return serialize(EntitiesInfo(gid=Gid(data=np.frombuffer(participant, np.uint8)), node_entities_info_seq=nodes))


def graph_writer(context: Context) -> Writer:
    topic = context.participant.topic("ros_discovery_info", idl_type(ENTITIES_INFO))
    qos = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return Writer(context.participant, topic, to_dds(qos), lambda *_: None)


def log_lines(console: Callable[[], str], text: str) -> int:
    return sum(text in line for line in console().splitlines())


def test_announcements_for_undiscovered_participants_are_dropped(
    node: Node, peer: Context, console: Callable[[], str]
) -> None:
    graph, writer = node.context.graph, graph_writer(peer)
    assert wait_until(writer.entity.get_matched_subscriptions)
    for number in range(500):
        writer.write(announcement(struct.pack(">QQ", 0xDEAD0000, number), [f"fake{number}"] * 20))
    assert wait_until(lambda: graph.announcements_dropped >= 500)
    assert not any(name.startswith("fake") for name, _ in graph.nodes())
    assert log_lines(console, "announced nodes of another one") == 1
    writer.close()


def test_a_participant_announces_a_bounded_number_of_nodes_which_leave_with_it(node: Node, peer: Context) -> None:
    graph, writer = node.context.graph, graph_writer(peer)
    assert wait_until(writer.entity.get_matched_subscriptions)
    writer.write(announcement(peer.participant.gid, ["real"]))
    assert wait_until(lambda: ("real", "/x") in graph.nodes())
    writer.write(announcement(peer.participant.gid, ["n" * 200] * (LARGEST_ANNOUNCEMENT // 200)))
    assert wait_until(lambda: graph.announcements_dropped == 1)
    assert ("real", "/x") in graph.nodes()
    writer.close()
    shutdown(context=peer)
    assert wait_until(lambda: ("real", "/x") not in graph.nodes())


def test_many_malformed_strings_are_repaired_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    request = AskScene.Request(question="q", cameras=[f"A{number:07d}" for number in range(16_000)])
    raw = bytes(serialize(request, SERVICE_HEADER.pack(1, 1))).replace(b"A", b"\xff")
    passes = []
    repaired_text = cdr.RepairedText
    monkeypatch.setattr(cdr, "RepairedText", lambda fields: passes.append(1) or repaired_text(fields))
    message, repaired = deserialize(raw, AskScene.Request, SERVICE_HEADER.size)
    assert repaired
    assert message.cameras == [f"?{number:07d}" for number in range(16_000)]
    assert passes == [1]


@pytest.mark.parametrize("name", ["sensor_msgs/msg/CameraInfo", "diagnostic_msgs/msg/DiagnosticArray", ENTITIES_INFO])
def test_strings_are_found_between_fields_of_every_kind(name: str) -> None:
    kind = interface(name)
    message = kind()
    if name.endswith("CameraInfo"):
        message.header.frame_id, message.distortion_model, message.d = "AA", "A", [1.0, 2.0]
    elif name.endswith("DiagnosticArray"):
        value = interface("diagnostic_msgs/msg/KeyValue")(key="k", value="A")
        status = interface("diagnostic_msgs/msg/DiagnosticStatus")(name="A", message="x", values=[value, value])
        message.status = [status, status]
    else:
        message.node_entities_info_seq = [NodeEntitiesInfo(node_name="A", reader_gid_seq=[Gid(), Gid()])] * 2
    raw = bytes(serialize(message)).replace(b"A", b"\xff")
    read, repaired = deserialize(raw, kind)
    assert repaired
    assert serialize(read) == bytearray(raw.replace(b"\xff", b"?"))


def test_malformed_packets_are_counted_and_logged_once(node: Node, console: Callable[[], str]) -> None:
    header = b"RTPS\x02\x01\x01\x10" + os.urandom(12)
    packets = (header + b"\x15\x05\xff\x7f" + os.urandom(20), header + b"\x07\x01\x04\x00" + bytes(4))
    ports = 7400 + 250 * int(os.environ["ROS_DOMAIN_ID"]) + 10 + 2 * np.arange(8)
    before = dds_log._lines
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(200):
            for port in (*ports, *(ports + 1)):
                for packet in packets:
                    sender.sendto(packet, ("127.0.0.1", int(port)))
    assert wait_until(lambda: dds_log._lines > before + 100)
    assert log_lines(console, "malformed packet") <= 1
    received: list[str] = []
    node.create_subscription(String, "still", lambda message: received.append(message.data), 1)
    publisher = node.create_publisher(String, "still", 1)
    assert wait_until(publisher.get_subscription_count)
    publisher.publish(String(data="x"))
    assert wait_until(lambda: received == ["x"])


def test_each_of_500_outstanding_calls_is_answered(node: Node) -> None:
    release = threading.Event()

    def answer(request: Any, response: Any) -> Any:
        release.wait(PATIENCE)
        response.answer = request.question
        return response

    node.create_service(AskScene, "burst", answer)
    client = node.create_client(AskScene, "burst", callback_group=ReentrantCallbackGroup())
    assert client.wait_for_service(PATIENCE)
    futures = [client.call_async(AskScene.Request(question=str(number))) for number in range(500)]
    release.set()
    assert wait_until(lambda: all(future.done() for future in futures))
    assert [future.result().answer for future in futures] == [str(number) for number in range(500)]
    assert client._pending == {}


def test_calls_beyond_the_bound_are_counted_and_reported(
    node: Node, console: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_WAITING", 10)
    entered, release = threading.Event(), threading.Event()

    def answer(request: Any, response: Any) -> Any:
        entered.set()
        release.wait(PATIENCE)
        return response

    served = node.create_service(AskScene, "busy", answer)
    client = node.create_client(AskScene, "busy", callback_group=ReentrantCallbackGroup())
    assert client.wait_for_service(PATIENCE)
    futures = [client.call_async(AskScene.Request())]
    assert entered.wait(PATIENCE)
    futures += [client.call_async(AskScene.Request()) for _ in range(50)]
    assert wait_until(lambda: served.samples_dropped == 40)
    release.set()
    assert wait_until(lambda: sum(future.done() for future in futures) == 11)
    assert log_lines(console, "/busy: 1 requests dropped, the last because 10 requests with") == 1


def test_a_very_large_request_is_dropped_and_counted(node: Node) -> None:
    kind = interface("rcl_interfaces/srv/GetParameters")
    client = node.create_client(kind, "~/get_parameters", callback_group=ReentrantCallbackGroup())
    assert client.wait_for_service(PATIENCE)
    served = next(found for found in node.services if found.srv_name.endswith("/get_parameters"))
    client.call_async(kind.Request(names=[""] * 500_000))
    assert wait_until(lambda: served.samples_dropped == 1)
    assert len(reply_of(client, kind.Request(names=[""] * 100)).values) == 100


def test_a_refused_parameter_is_quoted_in_abbreviated_form(node: Node) -> None:
    node.declare_parameter("number", 1)
    kind = interface("rcl_interfaces/srv/SetParameters")
    client = node.create_client(kind, "~/set_parameters", callback_group=ReentrantCallbackGroup())
    assert client.wait_for_service(PATIENCE)
    wrong = [Parameter(name, value="x" * 200_000) for name in ("number", "n" * 200_000)]
    results = reply_of(client, kind.Request(parameters=[p.to_parameter_msg() for p in wrong])).results
    assert [result.successful for result in results] == [False, False]
    assert all(len(result.reason) < 400 for result in results)


def test_many_prefixes_are_looked_up_once_per_parameter(node: Node) -> None:
    node.declare_parameter("group.inner.deep", 1)
    kind = interface("rcl_interfaces/srv/ListParameters")
    client = node.create_client(kind, "~/list_parameters", callback_group=ReentrantCallbackGroup())
    assert client.wait_for_service(PATIENCE)
    prefixes = [f"none{number}" for number in range(50_000)]
    result = reply_of(client, kind.Request(prefixes=[*prefixes, "group"])).result
    assert (list(result.names), list(result.prefixes)) == (["group.inner.deep"], ["group.inner"])
    shallow = reply_of(client, kind.Request(prefixes=["group"], depth=1)).result
    assert list(shallow.names) == []


def test_a_log_line_cannot_be_forged_by_the_text_of_a_peer(node: Node, console: Callable[[], str]) -> None:
    node.get_logger().warning("bad encoding 'x\n[INFO] [1.0] [victim]: forged\x1b[31m\udcff'")
    err = console()
    assert not any(line.startswith("[INFO] [1.0]") for line in err.splitlines())
    assert "\x1b" not in err
    assert "forged\\x1b[31m" in err


def test_user_data_beyond_what_ros_needs_is_not_kept() -> None:
    assert cyclone._pairs(b"typehash=a;=;x;serviceid=1=2;" + b"\xff") == {"typehash": "a", "": "", "serviceid": "1=2"}
