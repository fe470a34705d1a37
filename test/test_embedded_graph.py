"""The graph: nodes with their topics and services, as other processes see them."""

from __future__ import annotations

import signal

import pytest

pytest.importorskip("cyclonedds")

from conftest import wait_until

from flash_vstream_ros.ros import DurabilityPolicy, Node, ReliabilityPolicy
from flash_vstream_ros.ros.interfaces import String

PEER = """
import sys, time
from flash_vstream_ros.ros import *
from flash_vstream_ros.ros.interfaces import Image, String, interface

Trigger = interface("std_srvs/srv/Trigger")
init()
node = Node(sys.argv[1], namespace="/robot")
latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
node.create_publisher(String, "summary", latched)
node.create_publisher(Image, "image", qos_profile_sensor_data)
node.create_subscription(String, "question", print, 10)
node.create_service(Trigger, "~/reset", lambda request, response: response)
node.create_client(Trigger, "elsewhere")
try:
    print("up")  # inside, since a signal may come at once
    spin(node)
except (KeyboardInterrupt, ExternalShutdownException):
    pass
node.destroy_node()
shutdown()
"""


@pytest.fixture
def node(ros):
    made = Node("watcher", start_parameter_services=False)
    yield made
    made.destroy_node()


def test_a_node_of_another_process_is_listed_with_its_entities(node, start):
    start(PEER, "eyes").expect("up")
    assert wait_until(lambda: ("eyes", "/robot") in node.get_node_names_and_namespaces())
    for on_graph, name, kind in (  # discovery finds one after the other, in any order
        (node.get_publisher_names_and_types_by_node, "/robot/summary", "std_msgs/msg/String"),
        (node.get_publisher_names_and_types_by_node, "/robot/image", "sensor_msgs/msg/Image"),
        (node.get_subscriber_names_and_types_by_node, "/robot/question", "std_msgs/msg/String"),
        (node.get_service_names_and_types_by_node, "/robot/eyes/reset", "std_srvs/srv/Trigger"),
    ):
        assert wait_until(lambda seen=on_graph, row=(name, [kind]): row in seen("eyes", "/robot")), name


def test_publishers_are_counted_and_described(node, start):
    assert node.count_publishers("/robot/image") == 0
    start(PEER, "eyes").expect("up")
    assert wait_until(lambda: node.count_publishers("/robot/image") == 1)
    assert wait_until(lambda: node.get_publishers_info_by_topic("/robot/image")[0].node_name == "eyes")
    assert wait_until(lambda: node.count_publishers("/robot/summary") == 1)
    (image,) = node.get_publishers_info_by_topic("/robot/image")
    assert (image.node_namespace, image.topic_type) == ("/robot", "sensor_msgs/msg/Image")
    assert image.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    assert image.topic_type_hash.startswith("RIHS01_d31d41a9")
    (summary,) = node.get_publishers_info_by_topic("/robot/summary")
    assert summary.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL


def test_two_nodes_of_one_name_are_both_visible(node, start):
    first, second = start(PEER, "twin"), start(PEER, "twin")
    first.expect("up")
    second.expect("up")
    assert wait_until(lambda: node.get_node_names_and_namespaces().count(("twin", "/robot")) == 2)
    first.kill()
    # A killed process stays in the graph until its lease expires; one that exits announces it.
    second.send(signal.SIGINT)
    assert second.wait() == 0
    assert wait_until(lambda: node.get_node_names_and_namespaces().count(("twin", "/robot")) <= 1)


def test_destroyed_entities_leave_the_graph(node):
    other = Node("other", start_parameter_services=False)
    publisher = other.create_publisher(String, "t", 1)
    assert wait_until(lambda: node.count_publishers("t") == 1)
    other.destroy_publisher(publisher)
    assert wait_until(lambda: node.count_publishers("t") == 0)
    assert ("other", "/") in node.get_node_names_and_namespaces()
    other.destroy_node()
    other.destroy_node()
    assert ("other", "/") not in node.get_node_names_and_namespaces()
