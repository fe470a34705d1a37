"""The additions of `flash_vstream_ros.ros` to rclpy, on the installed rclpy."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from conftest import PATIENCE, Process, wait_until


@pytest.fixture
def before_iron() -> ModuleType:
    pytest.importorskip("rclpy", exc_type=ImportError)
    from flash_vstream_ros.ros import before_iron

    return before_iron


def test_an_entity_destroyed_before_it_is_taken_is_skipped(before_iron: ModuleType) -> None:
    from rclpy.exceptions import InvalidHandle

    def take(entity: str) -> str:
        if entity == "destroyed":
            raise InvalidHandle("destruction was requested")
        return entity

    unless_destroyed = before_iron.MultiThreadedExecutor._unless_destroyed
    assert unless_destroyed(take, "alive", None) == "alive"
    assert unless_destroyed(take, "destroyed", (None, None)) == (None, None)


def test_the_executor_for_older_distributions_runs_timers_topics_and_services(before_iron: ModuleType) -> None:
    import rclpy
    from rclpy.node import Node
    from std_msgs.msg import String
    from std_srvs.srv import Trigger

    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node("served", context=context)
    received: list[str] = []
    publisher = node.create_publisher(String, "received", 1)
    node.create_subscription(String, "received", lambda message: received.append(message.data), 1)
    node.create_timer(0.01, lambda: publisher.publish(String(data="tick")))

    def serve(_: Any, response: Any) -> Any:
        response.success = True
        return response

    node.create_service(Trigger, "trigger", serve)
    client = node.create_client(Trigger, "trigger")
    executor = before_iron.MultiThreadedExecutor(num_threads=2, context=context)
    executor.add_node(node)
    assert client.wait_for_service(PATIENCE)
    future = client.call_async(Trigger.Request())
    assert wait_until(lambda: executor.spin_once(0.1) or (received and future.done()))
    assert future.result().success
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def native_executor() -> ModuleType:
    pytest.importorskip("rclpy", exc_type=ImportError)
    from flash_vstream_ros.ros import native_executor

    return native_executor


def test_an_executor_that_is_shut_down_while_callbacks_run_leaves_no_exception(
    native_executor: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    import rclpy
    from rclpy.callback_groups import ReentrantCallbackGroup
    from rclpy.node import Node

    gc.collect()
    capfd.readouterr()  # discard the output of earlier tests
    for _ in range(5):
        context = rclpy.Context()
        rclpy.init(context=context)
        node = Node("busy", context=context)
        running = threading.Event()

        def work(running: threading.Event = running) -> None:
            running.set()
            time.sleep(0.05)

        for _ in range(8):
            node.create_timer(0.001, work, callback_group=ReentrantCallbackGroup())
        executor = native_executor.MultiThreadedExecutor(num_threads=2, context=context)
        executor.add_node(node)
        spinning = threading.Thread(target=executor.spin)
        spinning.start()
        assert running.wait(PATIENCE)
        time.sleep(0.02)  # until callbacks wait for a free thread
        executor.shutdown()
        spinning.join(PATIENCE)
        assert not spinning.is_alive()
        node.destroy_node()
        rclpy.shutdown(context=context)
        del executor
    gc.collect()
    output = capfd.readouterr()
    assert "never retrieved" not in output.out + output.err
    assert "Traceback" not in output.out + output.err


def test_spin_ends_when_shutdown_comes_while_it_builds_its_wait_set(
    native_executor: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rclpy
    from rclpy.guard_condition import GuardCondition
    from rclpy.node import Node

    building = threading.Event()
    handle = GuardCondition.handle.fget

    def handle_after_a_pause(guard: Any) -> Any:
        if threading.current_thread().name == "spinning":
            building.set()
            time.sleep(0.5)
        return handle(guard)

    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node("idle", context=context)
    executor = native_executor.MultiThreadedExecutor(num_threads=2, context=context)
    executor.add_node(node)
    monkeypatch.setattr(GuardCondition, "handle", property(handle_after_a_pause))
    spinning = threading.Thread(target=executor.spin, name="spinning", daemon=True)
    spinning.start()
    assert building.wait(PATIENCE)
    executor.shutdown()
    spinning.join(PATIENCE)
    assert not spinning.is_alive()
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def image_node(native_executor: ModuleType) -> Iterator[tuple[Any, Any, list[BaseException]]]:
    """A node, its executor with one thread besides that for images, and the exceptions that `spin` raised."""
    import rclpy
    from rclpy.node import Node

    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node("camera", context=context)
    executor = native_executor.MultiThreadedExecutor(num_threads=1, context=context)
    executor.add_node(node)
    raised: list[BaseException] = []

    def spin() -> None:
        while not executor._is_shutdown:
            try:
                executor.spin()
            except ZeroDivisionError as error:  # noqa: PERF203
                raised.append(error)

    spinning = threading.Thread(target=spin)
    spinning.start()
    yield node, executor, raised
    executor.shutdown()
    spinning.join(PATIENCE)
    assert not spinning.is_alive()
    assert not executor._image_thread.is_alive()
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.filterwarnings("ignore:MultiThreadedExecutor is used with a single thread")
def test_image_callbacks_run_while_other_callbacks_occupy_every_thread(
    native_executor: ModuleType, image_node: tuple[Any, Any, list[BaseException]]
) -> None:
    from std_msgs.msg import String

    node, _, _ = image_node
    received: list[str] = []
    entered, release = threading.Event(), threading.Event()

    def occupy() -> None:
        entered.set()
        release.wait(PATIENCE)

    node.create_timer(0.001, occupy)
    assert entered.wait(PATIENCE)
    group = native_executor.ImageCallbackGroup()
    node.create_subscription(String, "image", lambda message: received.append(message.data), 1, callback_group=group)
    publisher = node.create_publisher(String, "image", 1)
    node.create_timer(0.01, lambda: publisher.publish(String(data="tick")), callback_group=group)
    assert wait_until(lambda: len(received) > 3)
    assert not release.is_set()
    release.set()


@pytest.mark.filterwarnings("ignore:MultiThreadedExecutor is used with a single thread")
def test_a_destroyed_subscription_to_images_is_freed_although_no_other_is_due(
    native_executor: ModuleType, image_node: tuple[Any, Any, list[BaseException]]
) -> None:
    from std_msgs.msg import String

    received: list[Any] = []

    class Receiver:
        def receive(self, message: Any) -> None:
            received.append(message)

    node, _, _ = image_node
    node.create_timer(0.05, lambda: None)  # rclpy's own thread holds entities until the next callback
    receiver = Receiver()
    freed = weakref.ref(receiver)
    group = native_executor.ImageCallbackGroup()
    subscription = node.create_subscription(String, "image", receiver.receive, 1, callback_group=group)
    publisher = node.create_publisher(String, "image", 1)
    assert wait_until(lambda: publisher.publish(String()) or len(received) > 2)
    node.destroy_subscription(subscription)
    del receiver, subscription
    assert wait_until(lambda: gc.collect() >= 0 and freed() is None)


@pytest.mark.filterwarnings("ignore:MultiThreadedExecutor is used with a single thread")
def test_spin_raises_the_exception_of_an_image_callback_and_later_ones_run(
    native_executor: ModuleType, image_node: tuple[Any, Any, list[BaseException]]
) -> None:
    node, _, raised = image_node
    calls: list[int] = []

    def fail_once() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("a defect")

    node.create_timer(0.01, fail_once, callback_group=native_executor.ImageCallbackGroup())
    assert wait_until(lambda: len(calls) > 3)
    assert wait_until(lambda: len(raised) == 1)
    assert str(raised[0]) == "a defect"


def test_an_event_of_a_destroyed_subscription_is_skipped(native_executor: ModuleType) -> None:
    import rclpy
    from rclpy.exceptions import InvalidHandle

    class Destroyed:
        def take_data(self) -> None:
            raise InvalidHandle("destruction was requested")

    context = rclpy.Context()
    rclpy.init(context=context)
    executor = native_executor.MultiThreadedExecutor(num_threads=2, context=context)
    assert executor._take_waitable(Destroyed()) is None
    executor.shutdown()
    rclpy.shutdown(context=context)


def test_a_type_description_request_for_an_unknown_type_is_refused_without_a_log_line(
    native_executor: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    import rclpy

    from flash_vstream_ros.node.managed_node import ManagedNode

    rclpy.init(args=[])
    node = ManagedNode("described")
    services = [service for service in node.services if service.srv_name.endswith("get_type_description")]
    if not services:
        pytest.skip("this ROS 2 has no such service")
    (service,) = services
    request = service.srv_type.Request(type_name="std_msgs/msg/String", type_hash="x" * 1000)
    response = service.callback(request, service.srv_type.Response())
    assert not response.successful
    assert "RIHS01_" in response.failure_reason
    status = node.get_publishers_info_by_topic("/rosout")[0]
    known = service.srv_type.Request(type_name=status.topic_type, type_hash=str(status.topic_type_hash))
    assert service.callback(known, service.srv_type.Response()).successful
    node.destroy_node()
    rclpy.shutdown()
    assert "xxx" not in "".join(capfd.readouterr())


def test_a_destroyed_node_leaves_no_shared_memory(start: Callable[..., Process]) -> None:
    pytest.importorskip("rclpy", exc_type=ImportError)
    process = start(
        """
        import os, re
        from flash_vstream_ros.node.managed_node import ManagedNode
        from flash_vstream_ros.ros import init, shutdown

        init(args=[])
        node = ManagedNode("leaves_nothing")
        with open("/proc/self/maps") as maps:
            segments = set(re.findall("/dev/shm/fast(?:rtps|dds)_[0-9a-f]{16}$", maps.read(), re.M))
        node.destroy_node()
        shutdown()
        print(len(segments), "used")
        print(sum(map(os.path.exists, segments)), "left", flush=True)
        os._exit(0)
        """
    )
    process.expect("0 left")
    if os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") == "rmw_fastrtps_cpp":
        assert "0 used" not in process.lines
