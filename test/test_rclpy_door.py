"""What the door to ROS adds to rclpy for older ROS 2, on the rclpy that is here."""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any

import pytest
from conftest import wait_until


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


def test_the_executor_of_older_distributions_serves_timers_topics_and_services(before_iron: ModuleType) -> None:
    import rclpy
    from rclpy.node import Node
    from std_msgs.msg import String
    from std_srvs.srv import Trigger

    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node("served", context=context)
    heard: list[str] = []
    publisher = node.create_publisher(String, "heard", 1)
    node.create_subscription(String, "heard", lambda message: heard.append(message.data), 1)
    node.create_timer(0.01, lambda: publisher.publish(String(data="tick")))

    def serve(_: Any, response: Any) -> Any:
        response.success = True
        return response

    node.create_service(Trigger, "trigger", serve)
    client = node.create_client(Trigger, "trigger")
    executor = before_iron.MultiThreadedExecutor(num_threads=2, context=context)
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    assert client.wait_for_service(20.0)
    future = client.call_async(Trigger.Request())
    assert wait_until(lambda: heard and future.done())
    assert future.result().success
    executor.shutdown()
    spinning.join()
    node.destroy_node()
    rclpy.shutdown(context=context)
