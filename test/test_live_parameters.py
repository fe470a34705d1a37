"""Parameters of a node in this process: which can change, when a change applies, and what the server then reports."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import wait_until
from robot import new_namespace

from flash_vstream_ros.node.live_parameters import LiveParameters
from flash_vstream_ros.node.periodic_timer import PeriodicTimer
from flash_vstream_ros.node.settings import Settings
from flash_vstream_ros.ros import (
    MultiThreadedExecutor,
    MutuallyExclusiveCallbackGroup,
    Node,
    Parameter,
    SetParametersResult,
    SingleThreadedExecutor,
)


class ParameterNode(LiveParameters, Node):
    """A node with the parameters of the table and nothing else."""

    def __init__(self, **overrides: Any) -> None:
        given = [Parameter(name.replace("__", "."), value=value) for name, value in overrides.items()]
        super().__init__("live", parameter_overrides=given)
        self.warnings: list[str] = []
        self.applied: list[Settings] = []
        self.settings = self.declare_settings(self.warnings.append, self.applied.append)

    def value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def put(self, name: str, value: Any) -> Any:
        (result,) = self.set_parameters([Parameter(name, value=value)])
        return result


@contextmanager
def parameter_node(**overrides: Any) -> Iterator[ParameterNode]:
    node = ParameterNode(**overrides)
    try:
        yield node
    finally:
        node.destroy_node()


@pytest.mark.usefixtures("ros")
def test_wrong_values_at_start_are_reported_and_the_server_has_the_values_in_use() -> None:
    with parameter_node(sample_fps=5, model__dtype="float7", memory__synopsis_slots=20, question__queue=99) as node:
        assert [node.value(name) for name in ("sample_fps", "model.dtype", "question.queue")] == [1.0, "auto", 4]
        assert (node.value("memory.synopsis_slots"), node.value("memory.key_frame_slots")) == (20, 20)
        assert node.settings.engine.memory.dam_slots == 20
        assert len(node.warnings) == 4
        assert (
            "'memory.key_frame_slots' is 30, more than 'memory.synopsis_slots', 20; the node uses" in node.warnings[-1]
        )
        assert node.put("sample_fps", 3.0).successful


@pytest.mark.usefixtures("ros")
def test_cameras_need_distinct_names_and_one_cluster_each() -> None:
    with parameter_node(cameras=["front", "front", "left side", "rear"], memory__synopsis_slots=1) as node:
        assert node.settings.engine.cameras == ("front", "rear")
        assert (node.value("memory.synopsis_slots"), node.value("memory.key_frame_slots")) == (2, 2)
        assert "'cameras' must be different names" in node.warnings[0]
        result = node.set_parameters_atomically(
            [Parameter("memory.synopsis_slots", value=1), Parameter("memory.key_frame_slots", value=1)]
        )
        assert "each of 2 cameras needs a slot" in result.reason


@pytest.mark.usefixtures("ros")
def test_a_change_of_several_parameters_is_applied_once() -> None:
    with parameter_node() as node:
        several = [Parameter("sample_fps", value=2.0), Parameter("summary.prompt", value="What is new?")]
        assert node.set_parameters_atomically(several).successful
        (settings,) = node.applied
        assert (settings.engine.sample_fps, settings.summary_prompt) == (2.0, "What is new?")
        assert node.put("question.evidence", 5).successful
        assert node.applied[1].engine.evidence == 5
        assert node.applied[1].engine.sample_fps == 2.0


@pytest.mark.usefixtures("ros")
def test_a_change_refused_by_another_callback_is_not_applied() -> None:
    with parameter_node() as node:
        reasons = ["not on a Sunday", ""]

        def refuse_once(_: Any) -> Any:
            reason = reasons.pop(0)
            return SetParametersResult(successful=not reason, reason=reason)

        node.add_on_set_parameters_callback(refuse_once)
        assert node.put("sample_fps", 2.0).reason == "not on a Sunday"
        assert (node.value("sample_fps"), node.applied) == (1.0, [])
        assert node.put("sample_fps", 2.0).successful
        assert len(node.applied) == 1


@pytest.mark.usefixtures("ros")
def test_undeclared_parameters_of_other_owners_are_ignored() -> None:
    with parameter_node() as node:
        node.declare_parameter("somebody.elses", 1)
        assert node.put("somebody.elses", 2).successful
        assert not node.applied


@pytest.mark.usefixtures("ros")
def test_an_exception_while_a_change_is_applied_does_not_block_later_changes() -> None:
    with parameter_node() as node:

        def defect(_: Settings) -> None:
            raise ZeroDivisionError("a defect")

        node._apply = defect
        assert node.put("sample_fps", 2.0).successful
        node._apply = node.applied.append
        assert node.put("sample_fps", 3.0).successful
        assert len(node.applied) == 1


@pytest.mark.usefixtures("ros")
def test_parameters_read_at_start_can_be_set_while_unlocked() -> None:
    with parameter_node() as node:
        assert node.describe_parameter("model.name").read_only
        assert node.put("model.name", "other").reason == "'model.name' is read at start: configure the node again"
        node.lock_parameters(False)
        assert not node.describe_parameter("model.name").read_only
        assert "one of auto" in node.put("model.dtype", "float7").reason
        assert node.put("model.name", "other").successful
        assert node.applied[-1].model["name"] == "other"
        node.lock_parameters(True)
        assert not node.put("model.name", "another").successful
        assert node.put("sample_fps", 2.0).successful
        assert node.value("model.name") == "other"


@pytest.mark.usefixtures("ros")
def test_a_timer_follows_its_period_and_stops_at_zero_or_when_paused() -> None:
    node, ticks = Node("ticker", namespace=new_namespace()), []
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def ticking(more: int) -> bool:
        wanted = len(ticks) + more
        return wait_until(lambda: executor.spin_once(timeout_sec=0.1) or len(ticks) >= wanted)

    def stopped() -> bool:
        before = len(ticks)
        for _ in range(5):
            executor.spin_once(timeout_sec=0.05)
        return len(ticks) == before

    periodic = PeriodicTimer(node, lambda: ticks.append(1), 0.0)
    assert stopped()
    periodic.set_period(0.02)
    assert ticking(3)
    periodic.set_period(3600.0)
    executor.spin_once(timeout_sec=0.1)
    assert stopped()
    periodic.set_period(0.02)
    assert ticking(3)
    periodic.cancel()
    executor.spin_once(timeout_sec=0.1)
    periodic.set_period(0.01)
    assert stopped(), "it stays stopped, whatever its period"
    periodic.reset()
    assert ticking(3)
    periodic.set_period(0.0)
    executor.spin_once(timeout_sec=0.1)
    periodic.reset()
    assert stopped(), "a period of zero stops it"
    executor.shutdown()
    node.destroy_node()


@pytest.mark.usefixtures("ros")
def test_a_timer_cancelled_when_it_is_due_can_be_restarted() -> None:
    """It is cancelled while it waits for a thread, since other callbacks occupy all of them."""
    node, ticks, release = Node("ticker", namespace=new_namespace()), [], threading.Event()
    executor = MultiThreadedExecutor(num_threads=2)
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    busy = [node.create_guard_condition(release.wait, MutuallyExclusiveCallbackGroup()) for _ in range(2)]
    periodic = PeriodicTimer(node, lambda: ticks.append(1), 0.05)
    for guard in busy:
        guard.trigger()
    spinning.start()
    time.sleep(0.5)
    periodic.cancel()
    release.set()
    time.sleep(0.2)
    before = len(ticks)
    periodic.reset()
    assert wait_until(lambda: len(ticks) > before + 3)
    executor.shutdown()
    spinning.join()
    node.destroy_node()
