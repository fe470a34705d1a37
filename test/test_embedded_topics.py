"""Topics between processes: both ways, latched, remapped, the newest frame first, bad text and bad QoS."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("cyclonedds")

from conftest import PATIENCE, wait_until

from flash_vstream_ros.ros import (
    DurabilityPolicy,
    Node,
    QoSProfile,
    ReliabilityPolicy,
    SingleThreadedExecutor,
    qos_profile_sensor_data,
)
from flash_vstream_ros.ros.embedded import qos_watch
from flash_vstream_ros.ros.embedded.cdr import serialize
from flash_vstream_ros.ros.interfaces import Header, String

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)

ECHO = """
from flash_vstream_ros.ros import *
from flash_vstream_ros.ros.interfaces import String
init()
node = Node("echo")
back = node.create_publisher(String, "back", 10)
node.create_subscription(String, "there", lambda m: back.publish(String(data="got " + m.data)), 10)
print("up")
try:
    spin(node)
except (KeyboardInterrupt, ExternalShutdownException):
    pass
"""


@pytest.fixture
def node(ros):
    made = Node("tester", start_parameter_services=False)
    made.executor = SingleThreadedExecutor()
    made.executor.add_node(made)
    yield made
    made.destroy_node()


def spin_until(node, condition, timeout=PATIENCE):
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        node.executor.spin_once(timeout_sec=0.05)
    return condition()


@pytest.mark.parametrize("args", [(), ("--ros-args", "-r", "there:=/a/there", "-r", "back:=/a/back")])
def test_messages_travel_to_another_process_and_back(node, start, args):
    prefix = "/a/" if args else ""
    got = []
    node.create_subscription(String, prefix + "back", lambda m: got.append(m.data), 10)
    there = node.create_publisher(String, prefix + "there", 10)
    start(ECHO, *args).expect("up")
    # Either side may find the other first: what it sends before the other has found it is lost.
    assert spin_until(node, lambda: there.publish(String(data="ready?")) or got)
    for number in range(5):
        there.publish(String(data=f"hällo {number}"))
    assert spin_until(node, lambda: "got hällo 4" in got), got
    assert got[-5:] == [f"got hällo {number}" for number in range(5)]


def test_a_late_subscriber_gets_the_latched_message(node, start):
    publisher = start(
        """
        from flash_vstream_ros.ros import *
        from flash_vstream_ros.ros.interfaces import String
        init()
        node = Node("summariser")
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        publisher = node.create_publisher(String, "summary", latched)
        for word in ("old", "newest"):
            publisher.publish(String(data=word))
        print("published")
        try:
            spin(node)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        """
    )
    publisher.expect("published")
    got = []
    node.create_subscription(String, "summary", lambda m: got.append(m.data), LATCHED)
    assert spin_until(node, lambda: got)
    assert got == ["newest"]


def test_a_slow_callback_gets_the_newest_messages(node):
    got = []
    node.create_subscription(String, "fast", lambda m: got.append(m.data), QoSProfile(depth=2))
    publisher = node.create_publisher(String, "fast", 100)
    assert wait_until(publisher.get_subscription_count)
    for number in range(20):
        publisher.publish(String(data=str(number)))
    assert spin_until(node, lambda: len(got) >= 2)
    node.executor.spin_once(timeout_sec=0.2)
    assert got == ["18", "19"]


def test_text_that_is_not_utf_8_is_repaired_and_reported(node, capfd):
    got = []
    node.create_subscription(String, "text", lambda m: got.append(m.data), 10)
    publisher = node.create_publisher(String, "text", 10)
    assert wait_until(publisher.get_subscription_count)
    publisher.publish(bytes(serialize(String(data="abXY"))).replace(b"XY", b"\xff\xfe"))
    publisher.publish(String(data="next"))
    assert spin_until(node, lambda: len(got) == 2)
    assert got == ["ab??", "next"]
    assert "/text" in capfd.readouterr().err


def test_a_corrupt_sample_is_counted_warned_about_and_dropped(node, capfd):
    got = []
    subscription = node.create_subscription(Header, "header", got.append, 10)
    sample = memoryview(bytes(serialize(Header(frame_id="front"))))
    subscription._run(type("Sample", (), {"raw": sample[:-8], "source_timestamp": 0})())
    assert got == []
    assert subscription.samples_dropped == 1
    assert "/header: 1 messages dropped" in capfd.readouterr().err


def test_publishing_another_type_is_refused(node):
    publisher = node.create_publisher(String, "typed", 1)
    with pytest.raises(TypeError, match="Expected String on /typed"):
        publisher.publish(Header())


def test_an_incompatible_publisher_is_reported_once_with_its_policy(node, start, console, monkeypatch):
    monkeypatch.setattr(qos_watch, "NAME_TIMEOUT", PATIENCE)  # its node's name comes late on a busy machine
    monkeypatch.setattr(qos_watch, "PEER_TIMEOUT", PATIENCE)
    got = []
    node.create_subscription(String, "best", got.append, QoSProfile(depth=1))
    start(
        """
        import time
        from flash_vstream_ros.ros import *
        from flash_vstream_ros.ros.interfaces import String
        init()
        node = Node("lossy_camera", namespace="/front")
        node.create_publisher(String, "/best", qos_profile_sensor_data)
        print("up")
        time.sleep(60)
        """
    ).expect("up")
    assert wait_until(lambda: "RELIABILITY" in console()), console()
    time.sleep(1.5)
    log = console()
    assert log.count("RELIABILITY") == 1
    assert "/best" in log
    assert "/front/lossy_camera" in log


def test_a_best_effort_pair_exchanges_messages(node):
    got = []
    node.create_subscription(String, "sensor", got.append, qos_profile_sensor_data)
    publisher = node.create_publisher(String, "sensor", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    assert wait_until(publisher.get_subscription_count)
    publisher.publish(String(data="x"))
    assert spin_until(node, lambda: got)


def test_a_destroyed_subscription_is_no_longer_counted(node):
    subscription = node.create_subscription(String, "gone", lambda m: None, 1)
    publisher = node.create_publisher(String, "gone", 1)
    assert wait_until(publisher.get_subscription_count)
    assert node.destroy_subscription(subscription)
    assert not node.destroy_subscription(subscription)
    assert wait_until(lambda: publisher.get_subscription_count() == 0)


def test_a_stopped_reliable_subscriber_does_not_block_the_writer_for_ever(node, start):
    import signal

    frozen = start(ECHO.replace("String", "Header").replace('Header(data="got " + m.data)', "m"))
    frozen.expect("up")
    publisher = node.create_publisher(Header, "there", 1)
    assert wait_until(publisher.get_subscription_count)
    frozen.send(signal.SIGSTOP)
    message = Header(frame_id="x" * 2_000_000)
    begin = time.monotonic()
    for _ in range(5):
        publisher.publish(message)
    assert time.monotonic() - begin < PATIENCE


def test_events_during_the_creation_of_an_endpoint_do_not_stop_the_waiting_thread(node):
    """A publisher that is known already raises its incompatibility before the subscription's constructor returns."""
    got = []
    node.create_publisher(String, "flood", qos_profile_sensor_data)
    for _ in range(200):
        node.destroy_subscription(node.create_subscription(String, "flood", got.append, QoSProfile(depth=1)))
    node.create_subscription(String, "after", got.append, 1)
    publisher = node.create_publisher(String, "after", 1)
    assert wait_until(publisher.get_subscription_count)
    publisher.publish(String(data="x"))
    assert spin_until(node, lambda: got)


def test_an_exception_in_a_handler_is_logged_and_the_thread_continues(node, capfd):
    def fail():
        handlers.remove(fail)
        raise RuntimeError("in a periodic handler")

    handlers = node.context.participant._periodic
    handlers.append(fail)
    assert wait_until(lambda: fail not in handlers)
    got = []
    node.create_subscription(String, "still", got.append, 1)
    publisher = node.create_publisher(String, "still", 1)
    assert wait_until(publisher.get_subscription_count)
    publisher.publish(String(data="x"))
    assert spin_until(node, lambda: got)
    assert "in a periodic handler" in capfd.readouterr().err
