"""QoS events: whom a subscription or a publisher met, and whose QoS does not fit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("cyclonedds")

from conftest import PATIENCE, wait_until

from flash_vstream_ros.ros.embedded import (
    Duration,
    MultiThreadedExecutor,
    Node,
    PublisherEventCallbacks,
    QoSProfile,
    ReliabilityPolicy,
    SubscriptionEventCallbacks,
    qos_watch,
)
from flash_vstream_ros.ros.embedded.event_handler import QoSPolicyKind
from flash_vstream_ros.ros.embedded.types import message_class

String = message_class("std_msgs/msg/String")
RELIABLE = QoSProfile(depth=5)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture
def node(ros: None) -> Iterator[Node]:
    node = Node("events")
    executor = MultiThreadedExecutor(num_threads=2)
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    yield node
    executor.shutdown()
    spinning.join()
    node.destroy_node()


def wait_for(condition) -> None:
    assert wait_until(condition, 6 * PATIENCE)


def test_peers_whose_qos_does_not_fit_are_told_to_both_sides_with_the_policy(node, capfd):
    asked, offered = [], []
    wants = SubscriptionEventCallbacks(incompatible_qos=asked.append)
    offers = PublisherEventCallbacks(incompatible_qos=offered.append)
    node.create_subscription(String, "chatter", print, RELIABLE, event_callbacks=wants)
    node.create_publisher(String, "chatter", BEST_EFFORT, event_callbacks=offers)
    wait_for(lambda: asked and offered)
    for info in (asked[0], offered[0]):
        assert (info.total_count, info.last_policy_kind) == (1, QoSPolicyKind.RELIABILITY)
    assert "incompatible" not in capfd.readouterr().err


def test_peers_that_come_and_go_are_counted(node):
    met, found = [], []
    matched = SubscriptionEventCallbacks(matched=met.append)
    subscription = node.create_subscription(String, "chatter", print, RELIABLE, event_callbacks=matched)
    publishers = [
        node.create_publisher(
            String, "chatter", RELIABLE, event_callbacks=PublisherEventCallbacks(matched=found.append)
        )
        for _ in range(2)
    ]
    wait_for(lambda: met and met[-1].total_count == 2)
    wait_for(lambda: len(found) == 2)
    node.destroy_publisher(publishers[0])
    wait_for(lambda: met[-1].current_count == 1)
    node.destroy_subscription(subscription)
    wait_for(lambda: found[-1].current_count == 0)


def test_a_deadline_that_passes_is_told(node):
    missed = []
    promise = QoSProfile(depth=1, deadline=Duration(nanoseconds=50_000_000))
    events = SubscriptionEventCallbacks(deadline=missed.append)
    node.create_subscription(String, "chatter", lambda _: None, promise, event_callbacks=events)
    publisher = node.create_publisher(String, "chatter", promise)
    wait_for(lambda: publisher.get_subscription_count() > 0)
    publisher.publish(String(data="once"))
    wait_for(lambda: missed and missed[-1].total_count > 0)


def test_nothing_is_said_where_default_callbacks_are_not_wanted(node, capfd):
    quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
    met = []
    node.create_subscription(String, "chatter", print, RELIABLE, event_callbacks=quiet)
    events = PublisherEventCallbacks(incompatible_qos=met.append)
    node.create_publisher(String, "chatter", BEST_EFFORT, event_callbacks=events)
    node.create_publisher(String, "loud", BEST_EFFORT)
    node.create_subscription(String, "loud", print, RELIABLE)
    said = []
    wait_for(lambda: (met and said.append(capfd.readouterr().err)) or "/loud: the publisher" in "".join(said))
    assert "/chatter" not in "".join(said)


def test_the_handlers_go_with_their_owners(node):
    before = len(node.waitables)
    events = {"matched": print, "liveliness": print, "deadline": print}
    subscription = node.create_subscription(
        String, "chatter", print, RELIABLE, event_callbacks=SubscriptionEventCallbacks(message_lost=print, **events)
    )
    publisher = node.create_publisher(
        String, "chatter", RELIABLE, event_callbacks=PublisherEventCallbacks(incompatible_qos=print, **events)
    )
    assert len(node.waitables) == before + 9
    node.destroy_publisher(publisher)
    node.destroy_subscription(subscription)
    assert len(node.waitables) == before


def test_a_peer_that_the_graph_tells_of_late_is_said_all_the_same(node, capfd, monkeypatch):
    """A busy machine may take longer than the patience for the name of the peer's node."""
    graph = node.context.graph
    endpoints, late = graph.endpoints, threading.Event()
    monkeypatch.setattr(qos_watch, "NAME_PATIENCE", 0.05)
    monkeypatch.setattr(graph, "endpoints", lambda *asked: endpoints(*asked) if late.is_set() else [])
    node.create_publisher(String, "loud", BEST_EFFORT)
    node.create_subscription(String, "loud", print, RELIABLE)
    time.sleep(0.5)
    assert "/loud" not in capfd.readouterr().err
    late.set()
    said = []
    wait_for(lambda: said.append(capfd.readouterr().err) or "/loud: the publisher" in "".join(said))
