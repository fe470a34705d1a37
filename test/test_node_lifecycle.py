"""The node's life cycle, driven by a manager: subscriptions, replies, memory and resources in every state."""

from __future__ import annotations

import gc
import signal
import socket
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from robot import SMALL, START_S, Manager, NodeProcess, Robot, new_namespace

from flash_vstream_ros.instruments.running_node import running_node
from flash_vstream_ros.models.tiny import save_tiny
from flash_vstream_ros.node import vstream_node as node_module
from flash_vstream_ros.node.vstream_node import VStreamNode
from flash_vstream_ros.ros import Parameter
from flash_vstream_ros.ros.images import from_rgb
from flash_vstream_ros.ros.interfaces import AskScene, Image, ListMemory, MemoryStatus, Trigger, interface

pytestmark = pytest.mark.slow  # loads a model for each test


class ManagedRobot(NamedTuple):
    node: VStreamNode
    spinning: threading.Thread
    robot: Robot
    manager: Manager
    name: str

    def advice(self, label: str) -> str:
        """The command in the node's advice for a transition."""
        return f"ros2 lifecycle set {self.name} {label}"

    def question(self) -> Any:
        self.robot.wait_for(self.robot.service.service_is_ready)
        return self.robot.ask(self.robot.request("What is there?"))

    def wait_for_state(self, state: int) -> Any:
        self.robot.wait_for(lambda: self.robot.status is not None and self.robot.status.state == state)
        return self.robot.fresh_status()

    def see(self, *stamps_s: int) -> Any:
        """Publish images once the node receives the camera; returns the status after the last one."""
        self.robot.wait_for(lambda: self.robot.images.get_subscription_count() > 0)
        before = self.robot.fresh_status().frames_received
        blank = from_rgb(np.zeros((60, 80, 3), np.uint8), 0, "", Image)

        def received() -> bool:
            self.robot.images.publish(blank)
            return bool(self.robot.status.frames_received > before)

        self.robot.wait_for(received)
        self.robot.fresh_status()
        self.robot.see(stamps_s)
        return self.robot.fresh_status()


@contextmanager
def managed_node(*parameters: str, model: str = "tiny-random") -> Iterator[ManagedRobot]:
    space = new_namespace()
    args = ["test", "--ros-args", "-r", f"__ns:={space}", *SMALL]
    for parameter in (f"model.name:={model}", *parameters):
        args += ["-p", parameter]
    with running_node(VStreamNode, args) as (node, spinning), Robot(space) as robot:
        yield ManagedRobot(node, spinning, robot, Manager(robot, space), f"{space}/flash_vstream")


@pytest.fixture
def waiting() -> Iterator[ManagedRobot]:
    """A node that waits for its manager."""
    with managed_node("autostart:=false") as made:
        yield made


def test_an_unconfigured_node_has_no_subscriptions_and_replies_with_advice(waiting: ManagedRobot) -> None:
    status = waiting.wait_for_state(MemoryStatus.UNCONFIGURED)
    reply = waiting.question()
    assert waiting.manager.state == "unconfigured"
    assert reply.error_code == reply.NOT_READY
    assert waiting.advice("configure") in reply.error_msg
    assert "loading" not in reply.error_msg
    assert waiting.robot.images.get_subscription_count() == 0
    assert (status.model, list(status.cameras), status.memory_capacity) == ("tiny-random", ["camera"], 0)


def test_a_configured_node_has_its_model_but_no_camera(waiting: ManagedRobot) -> None:
    assert waiting.manager.change("configure") == [True]
    status = waiting.wait_for_state(MemoryStatus.INACTIVE)
    reply = waiting.question()
    assert waiting.manager.state == "inactive"
    assert reply.error_code == reply.NOT_READY
    assert waiting.advice("activate") in reply.error_msg
    assert waiting.robot.images.get_subscription_count() == 0
    assert status.memory_capacity > 0


def test_deactivating_stops_the_cameras_and_keeps_the_memory(waiting: ManagedRobot) -> None:
    assert waiting.manager.change("configure", "activate") == [True, True]
    before = waiting.see(1, 2, 3, 4)
    assert (before.state, before.slots) == (before.READY, 2)
    assert waiting.manager.change("deactivate") == [True]
    waiting.robot.wait_for(lambda: waiting.robot.images.get_subscription_count() == 0)
    for second in (5, 6):
        waiting.robot.images.publish(from_rgb(np.zeros((60, 80, 3), np.uint8), second * 10**9, "", Image))
    inactive = waiting.wait_for_state(MemoryStatus.INACTIVE)
    assert (inactive.frames_received, inactive.slots) == (before.frames_received, 2)
    assert (inactive.memory_entries, inactive.memory_bytes) == (before.memory_entries, before.memory_bytes)
    assert waiting.question().error_code == 1
    assert waiting.manager.change("activate") == [True]
    after = waiting.see(7, 8)
    reply = waiting.question()
    assert after.slots == 3
    assert (reply.error_code, reply.covered_since.sec, reply.covered_until.sec) == (0, 1, 8)


def test_the_memory_of_an_inactive_node_can_be_listed_and_forgotten(waiting: ManagedRobot) -> None:
    def call(kind: Any, name: str) -> Any:
        return waiting.robot.call(kind, f"{waiting.name}/{name}", kind.Request(), 60.0)

    refused = call(ListMemory, "list_memory")
    assert refused.error_code == waiting.question().NOT_READY
    assert waiting.advice("configure") in refused.error_msg
    assert waiting.manager.change("configure", "activate") == [True, True]
    waiting.see(1, 2, 3, 4)
    assert waiting.manager.change("deactivate") == [True]
    assert {entry.since.sec for entry in call(ListMemory, "list_memory").entries} == {1, 3}
    assert call(Trigger, "reset").message == "forgot all 2 slots"
    assert waiting.wait_for_state(MemoryStatus.INACTIVE).memory_entries == 0
    assert waiting.manager.change("activate") == [True]
    assert waiting.see(1, 2).slots == 1


def test_parameters_set_while_unconfigured_are_used_by_configure(waiting: ManagedRobot) -> None:
    def put(name: str, value: Any) -> Any:
        return waiting.node.set_parameters_atomically([Parameter(name, value=value)])

    assert put("cameras", ["front", "rear"]).successful
    assert put("memory.synopsis_slots", 40).successful
    assert waiting.manager.change("configure", "activate") == [True, True]
    assert list(waiting.wait_for_state(MemoryStatus.READY).cameras) == ["front", "rear"]
    assert waiting.robot.status.memory_capacity == 40 + 30
    assert "configure the node again" in put("cameras", ["left"]).reason
    assert put("memory.synopsis_slots", 50).successful
    waiting.robot.wait_for(lambda: waiting.robot.status.memory_capacity == 50 + 30)
    assert waiting.manager.change("deactivate", "cleanup") == [True, True]
    assert put("cameras", ["left"]).successful
    assert waiting.manager.change("configure") == [True]
    status = waiting.wait_for_state(MemoryStatus.INACTIVE)
    assert (list(status.cameras), status.memory_capacity) == (["left"], 50 + 30)


def test_a_reliability_set_while_unconfigured_applies_to_the_next_subscription(waiting: ManagedRobot) -> None:
    for wanted in ("best_effort", "reliable"):
        (result,) = waiting.node.set_parameters([Parameter("image.reliability", value=wanted)])
        assert result.successful
        assert waiting.manager.change("configure", "activate") == [True, True]
        (camera,) = waiting.node._cameras
        assert camera.reliable is (wanted == "reliable")
        override = f"qos_overrides.{camera.topic}.subscription.reliability"
        assert waiting.node.get_parameter(override).value == wanted
        assert waiting.manager.change("deactivate", "cleanup") == [True, True]


def test_cleanup_frees_model_and_memory_and_the_node_can_be_configured_again(waiting: ManagedRobot) -> None:
    assert waiting.manager.change("configure", "activate") == [True, True]
    assert waiting.see(1, 2).slots == 1
    assert waiting.question().error_code == 0
    engine = weakref.ref(waiting.node._engine)
    assert waiting.manager.change("deactivate", "cleanup") == [True, True]
    status = waiting.wait_for_state(MemoryStatus.UNCONFIGURED)
    assert (status.slots, status.memory_entries, status.memory_tokens, status.memory_bytes) == (0, 0, 0, 0)
    assert (status.prefix_cache_bytes, status.cached_tokens) == (0, 0)
    assert "flash-vstream-worker" not in [thread.name for thread in threading.enumerate()]
    # Threads of the executor hold the old engine until they have run other callbacks.
    waiting.robot.wait_for(lambda: gc.collect() >= 0 and engine() is None)
    assert waiting.manager.change("configure", "activate") == [True, True]
    assert waiting.question().error_code == 2
    assert waiting.see(1, 2).slots == 1
    assert waiting.question().error_code == 0


@pytest.mark.parametrize("way", [(), ("configure",), ("configure", "activate")], ids=lambda way: "-".join(way) or "-")
def test_shutdown_ends_the_node_from_every_state(waiting: ManagedRobot, way: tuple[str, ...]) -> None:
    assert waiting.manager.change(*way, "shutdown") == [True] * (len(way) + 1)
    waiting.wait_for_state(MemoryStatus.FINALIZED)
    reply = waiting.question()
    assert waiting.manager.state == "finalized"
    assert reply.error_code == reply.NOT_READY
    assert "start it again" in reply.error_msg
    assert "flash-vstream-worker" not in [thread.name for thread in threading.enumerate()]
    assert waiting.manager.change("configure") == [False]


def test_a_shutdown_while_questions_wait_cancels_them(waiting: ManagedRobot) -> None:
    assert waiting.manager.change("configure", "activate") == [True, True]
    waiting.see(1, 2)

    def long() -> AskScene.Request:
        return waiting.robot.request("A long story", max_new_tokens=60_000, deadline_s=60.0)

    # Until one is BUSY: then the maximum number of executor threads wait for answers.
    asked = [waiting.robot.service.call_async(long()) for _ in range(6)]
    waiting.robot.wait_for(lambda: any(future.done() for future in asked))
    assert waiting.manager.state == "active"
    assert waiting.manager.change("shutdown") == [True]
    waiting.robot.wait_for(lambda: all(future.done() for future in asked))
    codes = Counter(future.result().error_code for future in asked)
    assert set(codes) == {AskScene.Response.BUSY, AskScene.Response.CANCELLED}
    assert codes[AskScene.Response.CANCELLED] >= 4


def test_a_deactivation_cancels_the_running_answer(waiting: ManagedRobot) -> None:
    assert waiting.manager.change("configure", "activate") == [True, True]
    waiting.see(1, 2)
    pieces: list[str] = []
    waiting.robot.on_piece = pieces.append
    request = waiting.robot.request("A long story", max_new_tokens=60_000, deadline_s=60.0, stream=True)
    future = waiting.robot.service.call_async(request)
    waiting.robot.wait_for(lambda: bool(pieces))
    assert waiting.manager.change("deactivate") == [True]
    waiting.robot.wait_for(future.done)
    assert future.result().error_code == future.result().CANCELLED


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Loading of real models waits until this is set."""
    opened, load = threading.Event(), node_module.load_model

    def load_later(**arguments: Any) -> Any:
        assert opened.wait(120.0)
        return load(**arguments)

    monkeypatch.setattr(node_module, "load_model", load_later)
    yield opened
    opened.set()


def test_a_node_answers_and_publishes_while_it_is_configured(gate: threading.Event, waiting: ManagedRobot) -> None:
    configuring = waiting.manager.ask_for("configure")
    waiting.robot.wait_for(lambda: waiting.manager.state == "configuring")
    waiting.wait_for_state(MemoryStatus.LOADING)
    reply = waiting.question()
    assert (reply.error_code, "still loading" in reply.error_msg) == (reply.NOT_READY, True)
    assert waiting.manager.change("configure", "shutdown", "transition_success") == [False, False, False]
    listing = interface("rcl_interfaces/srv/ListParameters")
    client = waiting.robot.node.create_client(listing, f"{waiting.name}/list_parameters")
    waiting.robot.wait_for(client.service_is_ready)
    future = client.call_async(listing.Request())
    waiting.robot.wait_for(future.done)
    assert "autostart" in future.result().result.names
    assert not configuring.done()
    gate.set()
    waiting.robot.wait_for(configuring.done)
    assert configuring.result().success
    assert waiting.manager.state == "inactive"


def test_a_node_with_autostart_replies_loading_until_it_is_ready(gate: threading.Event) -> None:
    with managed_node() as started:
        assert "loading" in started.question().error_msg
        gate.set()
        started.wait_for_state(MemoryStatus.READY)
        assert started.manager.state == "active"
        assert started.question().error_code == 2


def test_a_node_closed_while_it_is_configured_does_not_wait_for_the_model(gate: threading.Event) -> None:
    with managed_node() as started:
        started.wait_for_state(MemoryStatus.LOADING)
    assert not gate.is_set()
    assert not started.spinning.is_alive()


def test_a_failed_load_is_explained_and_a_second_try_succeeds(tmp_path: Path) -> None:
    model = tmp_path / "model"
    with managed_node("autostart:=false", model=str(model)) as retried:
        assert retried.manager.change("configure") == [False]
        status = retried.wait_for_state(MemoryStatus.FAILED)
        reply = retried.question()
        assert str(model) in status.last_error
        assert reply.error_code == reply.NOT_READY
        assert status.last_error in reply.error_msg
        assert retried.advice("configure") in reply.error_msg
        assert retried.manager.state == "unconfigured"
        assert retried.manager.steps[-2:] == [("configuring", "errorprocessing"), ("errorprocessing", "unconfigured")]
        assert retried.manager.change("configure") == [False]
        save_tiny(model)
        assert retried.manager.change("configure", "activate") == [True, True]
        assert retried.wait_for_state(MemoryStatus.READY).last_error == ""
        assert retried.see(1, 2).slots == 1
        assert retried.question().error_code == 0


def test_an_impossible_transition_is_refused_and_does_not_end_the_node(waiting: ManagedRobot) -> None:
    assert waiting.manager.change("activate", "deactivate", "cleanup", "dance") == [False] * 4
    for number in (42, 8, 3):
        future = waiting.manager.ask_for(number=number)
        waiting.robot.wait_for(future.done)
        assert not future.result().success
    assert waiting.manager.state == "unconfigured"
    assert waiting.spinning.is_alive()
    assert waiting.manager.change("configure") == [True]


def test_an_exception_in_a_transition_returns_the_node_to_unconfigured(
    waiting: ManagedRobot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(waiting.node, "camera_type", defect)
    assert waiting.manager.change("configure", "activate") == [True, False]
    assert waiting.manager.state == "unconfigured"
    waiting.wait_for_state(MemoryStatus.UNCONFIGURED)
    monkeypatch.undo()
    assert waiting.manager.change("configure", "activate") == [True, True]
    assert waiting.see(1, 2).slots == 1


def test_summaries_are_made_in_the_active_state_only() -> None:
    with managed_node("autostart:=false", "summary.period_s:=0.2") as summarising:
        timer = summarising.node._summaries._timer
        assert not timer.running
        summarising.manager.change("configure")
        assert not timer.running
        summarising.manager.change("activate")
        summarising.see(1, 2)
        summarising.robot.wait_for(lambda: bool(summarising.robot.summaries))
        summarising.manager.change("deactivate")
        assert not timer.running


def test_autostart_is_a_parameter_that_can_be_read(waiting: ManagedRobot) -> None:
    assert waiting.node.get_parameter("autostart").value is False
    result = waiting.node.set_parameters([Parameter("autostart", value=True)])[0]
    assert result.reason == "'autostart' is read at start: start the node again"
    assert waiting.node.describe_parameter("autostart").read_only


@contextmanager
def stuck_hub() -> Iterator[tuple[str, Callable[[], bool]]]:
    """A model hub that accepts requests and never answers; yields its address and a function: was a request made?"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked: list[socket.socket] = []

        def take() -> None:
            try:
                while True:
                    asked.append(server.accept()[0])
            except OSError:
                return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", lambda: bool(asked)
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in asked:
            connection.close()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_node_whose_model_is_still_being_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: signal.Signals
) -> None:
    space = new_namespace()
    with stuck_hub() as (address, asked), Robot(space) as robot:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "600")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        with NodeProcess(tmp_path, model="someone/something", namespace=space, forked=False) as node:
            robot.wait_for(lambda: robot.status is not None, START_S)
            robot.wait_for(asked, START_S)
            robot.wait_for(lambda: robot.status is not None and robot.status.state == MemoryStatus.LOADING)
            assert node.interrupt(ending) == 0
            log = node.log
    assert "Traceback" not in log
    assert "Fatal" not in log
