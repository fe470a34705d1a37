"""Other nodes that offer the same service, when discovery finds their services late."""

from __future__ import annotations

import threading

import pytest
from conftest import wait_until

from flash_vstream_ros.node import duplicates
from flash_vstream_ros.node.duplicates import DuplicateWatch
from flash_vstream_ros.ros import Node
from flash_vstream_ros.ros.interfaces import Trigger


@pytest.mark.usefixtures("ros")
def test_a_service_that_is_discovered_late_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    node, other = Node("one", namespace="/late"), Node("two", namespace="/late")
    other.create_service(Trigger, "ask_scene", lambda request, response: response)
    known, discovered = node.get_service_names_and_types_by_node, threading.Event()
    monkeypatch.setattr(duplicates, "CHECK_PERIOD_S", 0.0)
    monkeypatch.setattr(
        node,
        "get_service_names_and_types_by_node",
        lambda *asked: known(*asked) if discovered.is_set() else [],
    )
    watch = DuplicateWatch(node, ("ask_scene",))
    assert [watch.find() for _ in range(50)] == [[]] * 50
    discovered.set()
    assert wait_until(watch.find)
    assert watch.find()[0].startswith("/late/two offers /late/ask_scene too")
    node.destroy_node()
    other.destroy_node()
