"""QoS events: lost messages, and peers whose QoS does not fit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("cyclonedds")

from conftest import PATIENCE, wait_until

from flash_vstream_ros.ros import (
    MultiThreadedExecutor,
    Node,
    QoSProfile,
    ReliabilityPolicy,
    SubscriptionEventCallbacks,
)
from flash_vstream_ros.ros.embedded import qos_watch
from flash_vstream_ros.ros.interfaces import String

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
    assert wait_until(condition, 2 * PATIENCE)


def test_lost_messages_are_reported_with_their_number(node):
    lost = []
    events = SubscriptionEventCallbacks(message_lost=lost.append)
    subscription = node.create_subscription(String, "chatter", lambda _: None, BEST_EFFORT, event_callbacks=events)
    assert subscription.lost_messages in node.waitables
    subscription.lost_messages.signalled = True
    node.context.notifier.notify()
    wait_for(lambda: lost)
    assert (lost[0].total_count, lost[0].total_count_change) == (0, 0)


def test_no_peer_is_reported_without_default_callbacks(node, console):
    quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
    node.create_subscription(String, "chatter", print, RELIABLE, event_callbacks=quiet)
    node.create_publisher(String, "chatter", BEST_EFFORT)
    node.create_publisher(String, "loud", BEST_EFFORT)
    node.create_subscription(String, "loud", print, RELIABLE)
    wait_for(lambda: "/loud: the publisher" in console())
    assert "/chatter: the publisher" not in console()


def test_destroying_a_subscription_removes_its_event_handler(node):
    before = len(node.waitables)
    events = SubscriptionEventCallbacks(message_lost=print)
    subscription = node.create_subscription(String, "chatter", print, RELIABLE, event_callbacks=events)
    assert len(node.waitables) == before + 2
    node.destroy_subscription(subscription)
    assert len(node.waitables) == before


def test_a_peer_that_is_discovered_late_is_reported(node, console, monkeypatch):
    """On a busy machine, discovery of the name of the peer's node may take longer than the runtime waits for it."""
    graph = node.context.graph
    endpoints, late = graph.endpoints, threading.Event()
    monkeypatch.setattr(qos_watch, "NAME_TIMEOUT", 0.05)
    monkeypatch.setattr(graph, "endpoints", lambda *asked: endpoints(*asked) if late.is_set() else [])
    node.create_publisher(String, "loud", BEST_EFFORT)
    node.create_subscription(String, "loud", print, RELIABLE)
    time.sleep(0.5)
    assert "/loud" not in console()
    late.set()
    wait_for(lambda: "/loud: the publisher" in console())
