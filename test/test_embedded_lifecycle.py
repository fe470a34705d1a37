"""Managed nodes: every transition, impossible ones, errors, and the services over DDS."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("cyclonedds")

from conftest import PATIENCE, reply_of, wait_until

from flash_vstream_ros.ros import (
    LifecycleNodeMixin,
    LifecycleState,
    MultiThreadedExecutor,
    Node,
    ReentrantCallbackGroup,
    TransitionCallbackReturn,
)
from flash_vstream_ros.ros.embedded.lifecycle_states import STATES, TRANSITIONS
from flash_vstream_ros.ros.embedded.types import type_hash
from flash_vstream_ros.ros.interfaces import interface

SUCCESS, FAILURE, ERROR = TransitionCallbackReturn
ChangeState, GetState, GetAvailableStates, GetAvailableTransitions = (
    interface(f"lifecycle_msgs/srv/{name}")
    for name in ("ChangeState", "GetState", "GetAvailableStates", "GetAvailableTransitions")
)
State, Transition, TransitionEvent = (
    interface(f"lifecycle_msgs/msg/{name}") for name in ("State", "Transition", "TransitionEvent")
)

TRANSITIONS_TO = {
    "unconfigured": [],
    "inactive": ["configure"],
    "active": ["configure", "activate"],
    "finalized": ["shutdown"],
}
PUBLIC = {
    1: ("configure", "unconfigured", "inactive"),
    2: ("cleanup", "inactive", "unconfigured"),
    3: ("activate", "inactive", "active"),
    4: ("deactivate", "active", "inactive"),
    5: ("shutdown", "unconfigured", "finalized"),
    6: ("shutdown", "inactive", "finalized"),
    7: ("shutdown", "active", "finalized"),
}


class Scripted(LifecycleNodeMixin, Node):
    """A node whose callbacks return or raise the values in `script`, and record their calls."""

    def __init__(self, name: str = "managed") -> None:
        Node.__init__(self, name, start_parameter_services=False)
        LifecycleNodeMixin.__init__(self)
        self.script: dict[str, Any] = {}
        self.ran: list[tuple[str, LifecycleState]] = []

    def _play(self, name: str, state: LifecycleState) -> Any:
        self.ran.append((name, state))
        result = self.script.get(name, SUCCESS)
        if isinstance(result, Exception):
            raise result
        return result

    def on_configure(self, state: LifecycleState) -> Any:
        return self._play("configure", state)

    def on_activate(self, state: LifecycleState) -> Any:
        return self._play("activate", state)

    def on_deactivate(self, state: LifecycleState) -> Any:
        return self._play("deactivate", state)

    def on_cleanup(self, state: LifecycleState) -> Any:
        return self._play("cleanup", state)

    def on_shutdown(self, state: LifecycleState) -> Any:
        return self._play("shutdown", state)

    def on_error(self, state: LifecycleState) -> Any:
        return self._play("error", state)

    @property
    def label(self) -> str:
        return self._state_machine.current.label

    def go_to(self, state: str) -> None:
        for step in TRANSITIONS_TO[state]:
            assert self._change_state(step) is SUCCESS
        self.ran.clear()


@pytest.fixture
def managed(ros: None) -> Iterator[Scripted]:
    node = Scripted()
    yield node
    node.destroy_node()


@pytest.mark.parametrize(("label", "start", "goal"), PUBLIC.values())
def test_a_transition_runs_its_callback_with_the_state_before_and_reaches_its_goal(managed, label, start, goal):
    managed.go_to(start)
    assert managed._change_state(label) is SUCCESS
    assert managed.label == goal
    assert managed.ran == [(label, LifecycleState(start, STATES[start].state_id))]


@pytest.mark.parametrize(("label", "start", "goal"), PUBLIC.values())
def test_a_failure_returns_to_the_start_state_and_a_failed_shutdown_is_final(managed, label, start, goal):
    managed.go_to(start)
    managed.script[label] = FAILURE
    assert managed._change_state(label) is FAILURE
    assert managed.label == ("finalized" if label == "shutdown" else start)
    assert [name for name, _ in managed.ran] == [label]


@pytest.mark.parametrize(
    ("recovery", "end"),
    [(SUCCESS, "unconfigured"), (FAILURE, "finalized"), (ERROR, "finalized"), (OSError("worse"), "finalized")],
)
@pytest.mark.parametrize("failure", [ERROR, ValueError("a defect"), None])
@pytest.mark.parametrize(("label", "start", "goal"), PUBLIC.values())
def test_an_error_an_exception_and_a_missing_return_lead_through_on_error(
    managed, capfd, label, start, goal, failure, recovery, end
):
    managed.go_to(start)
    managed.script |= {label: failure, "error": recovery}
    assert managed._change_state(label) is ERROR
    assert managed.label == end
    before = LifecycleState(start, STATES[start].state_id)
    assert managed.ran == [(label, before), ("error", before)]
    log = capfd.readouterr().err
    assert ("a defect" in log) == isinstance(failure, ValueError)
    assert ("returned None" in log) == (failure is None)


@pytest.mark.parametrize("state", TRANSITIONS_TO)
def test_an_impossible_transition_is_refused_and_changes_nothing(managed, state):
    managed.go_to(state)
    for label in ("configure", "cleanup", "activate", "deactivate", "shutdown"):
        if (label, state) not in [(other, start) for other, start, _ in PUBLIC.values()]:
            with pytest.raises(RuntimeError, match=f"'{label}' from state {state}"):
                managed._change_state(label)
    assert managed.label == state
    assert managed.ran == []


def test_a_node_that_recovered_from_an_error_can_be_configured_again(managed):
    managed.script["configure"] = ERROR
    managed.trigger_configure()
    managed.script.clear()
    managed.go_to("active")
    assert managed.label == "active"


def test_ids_labels_and_goals_equal_those_of_lifecycle_msgs():
    constants = {name: value for name, value in vars(State).items() if isinstance(value, int)}
    assert {f"PRIMARY_STATE_{s.label}".upper() for s in STATES.values() if s.state_id < 10} | {
        f"TRANSITION_STATE_{s.label}".upper() for s in STATES.values() if s.state_id >= 10
    } == set(constants)
    assert sorted(constants.values()) == [state.state_id for state in STATES.values()]
    named = {name: value for name, value in vars(Transition).items() if isinstance(value, int)}
    numbers = set(named.values()) - {Transition.TRANSITION_CREATE, Transition.TRANSITION_DESTROY}
    returns = {item.value for item in TransitionCallbackReturn}
    assert {transition.transition_id for transition in TRANSITIONS} == numbers - returns
    assert returns == {named[f"TRANSITION_CALLBACK_{item.name}"] for item in TransitionCallbackReturn}
    for label, under_way in (
        ("CONFIGURE", "configuring"),
        ("CLEANUP", "cleaningup"),
        ("ACTIVATE", "activating"),
        ("DEACTIVATE", "deactivating"),
        ("SHUTDOWN", "shuttingdown"),
        ("ERROR", "errorprocessing"),
    ):
        for ending in TransitionCallbackReturn:
            number = named[f"TRANSITION_ON_{label}_{ending.name}"]
            (found,) = [transition for transition in TRANSITIONS if transition.transition_id == number]
            assert (found.start.label, found.label) == (under_way, ending.to_label())


def test_type_hashes_equal_those_of_ros_2_jazzy():
    hashes = {
        "msg/TransitionEvent": "d5f8873a2f0146498f812d7885c7327ce27e463d36811d8792f35ee38c0d6c38",
        "srv/ChangeState_Request": "d74c6f524e14cade7b67e7297190360ed749264af300524fc1456f27cc2a553a",
        "srv/ChangeState_Response": "e1ddfed0271fefe63767aa71561926e4d9eac0f1ddf9e71a8873eb46b36deac2",
        "srv/GetState_Response": "fe249babab472e42cb5653b5d6a6b0c42a003b0fdfb84851aea3fde08760b4f5",
        "srv/GetAvailableStates_Response": "223e0dd5bb8a847ebb9532adaf8b5e2a97e6e68e79faeaabd81a45fb32925bd1",
        "srv/GetAvailableTransitions_Response": "4711339461aadf02bcfff797a198de911f885074bd3f2fe9f7b677ef87f0741c",
    }
    assert {name: type_hash(f"lifecycle_msgs/{name}") for name in hashes} == {
        name: f"RIHS01_{digits}" for name, digits in hashes.items()
    }


class SlowToConfigure(LifecycleNodeMixin, Node):
    """A node whose configuration waits for the test, and that answers requests meanwhile."""

    def __init__(self, name: str) -> None:
        Node.__init__(self, name, start_parameter_services=False)
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self.go_on = threading.Event()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return SUCCESS if self.go_on.wait(60.0) else FAILURE


@contextmanager
def spinning(*nodes: Node) -> Iterator[None]:
    executor = MultiThreadedExecutor(6)
    for node in nodes:
        executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join()
        for node in nodes:
            node.destroy_node()


class Manager:
    """A lifecycle manager: calls the node's services over DDS."""

    def __init__(self, node: Node, of: str) -> None:
        group = ReentrantCallbackGroup()
        self._clients = {
            name: node.create_client(kind, f"{of}/{name}", callback_group=group)
            for name, kind in (
                ("change_state", ChangeState),
                ("get_state", GetState),
                ("get_available_states", GetAvailableStates),
                ("get_available_transitions", GetAvailableTransitions),
                ("get_transition_graph", GetAvailableTransitions),
            )
        }
        self.events: list[Any] = []
        node.create_subscription(TransitionEvent, f"{of}/transition_event", self.events.append, 10)
        assert all(client.wait_for_service(PATIENCE) for client in self._clients.values())

    def change_later(self, number: int = 0, label: str = "") -> Any:
        request = ChangeState.Request(transition=Transition(id=number, label=label))
        return self._clients["change_state"].call_async(request)

    def change(self, number: int = 0, label: str = "") -> bool:
        future = self.change_later(number, label)
        assert wait_until(future.done)
        return future.result().success

    def ask(self, service: str) -> Any:
        client = self._clients[service]
        return reply_of(client, client.srv_type.Request())

    @property
    def state(self) -> tuple[int, str]:
        current = self.ask("get_state").current_state
        return current.id, current.label


@pytest.fixture
def patient(ros: None) -> Iterator[tuple[SlowToConfigure, Manager]]:
    node, other = SlowToConfigure("patient"), Node("manager", start_parameter_services=False)
    with spinning(node, other):
        yield node, Manager(other, "patient")
        node.go_on.set()


def test_a_manager_runs_every_transition_and_receives_every_event(patient):
    node, manager = patient
    node.go_on.set()
    assert wait_until(lambda: node._transition_events.get_subscription_count() > 0)
    assert manager.state == (1, "unconfigured")
    assert manager.change(Transition.TRANSITION_CONFIGURE)
    assert manager.state == (2, "inactive")
    assert manager.change(label="activate")
    assert manager.change(label="deactivate")
    assert manager.change(Transition.TRANSITION_CLEANUP)
    assert manager.change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert manager.state == (4, "finalized")
    assert wait_until(lambda: len(manager.events) == 10)
    seen = [(event.start_state.label, event.goal_state.label) for event in manager.events]
    assert seen == [
        ("unconfigured", "configuring"),
        ("configuring", "inactive"),
        ("inactive", "activating"),
        ("activating", "active"),
        ("active", "deactivating"),
        ("deactivating", "inactive"),
        ("inactive", "cleaningup"),
        ("cleaningup", "unconfigured"),
        ("unconfigured", "shuttingdown"),
        ("shuttingdown", "finalized"),
    ]
    assert (manager.events[0].transition.id, manager.events[1].transition.label) == (1, "transition_success")
    stamps = [event.timestamp for event in manager.events]
    assert 0 < stamps[0] <= stamps[-1]


def test_the_label_of_a_request_takes_precedence_over_its_id(patient):
    node, manager = patient
    node.go_on.set()
    assert manager.change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, "configure")
    assert manager.state == (2, "inactive")


def test_an_impossible_request_is_refused_and_the_node_continues(patient):
    node, manager = patient
    node.go_on.set()
    refused = [
        (Transition.TRANSITION_ACTIVATE, ""),
        (42, ""),
        (0, "dance"),
        (0, ""),
        (Transition.TRANSITION_DESTROY, ""),
    ]
    assert [manager.change(*request) for request in refused] == [False] * len(refused)
    assert manager.state == (1, "unconfigured")
    assert manager.change(Transition.TRANSITION_CONFIGURE)


def test_a_second_transition_is_refused_while_one_runs(patient):
    node, manager = patient
    configuring = manager.change_later(Transition.TRANSITION_CONFIGURE)
    assert wait_until(lambda: manager.state == (10, "configuring"))
    available = manager.ask("get_available_transitions").available_transitions
    assert [item.transition.label for item in available] == [item.to_label() for item in TransitionCallbackReturn]
    # Clients must not request the transitions that follow from a callback's return value.
    assert not manager.change(Transition.TRANSITION_ON_CONFIGURE_SUCCESS)
    assert not manager.change(label="transition_success")
    assert not manager.change(Transition.TRANSITION_CONFIGURE)
    assert not configuring.done()
    node.go_on.set()
    assert wait_until(configuring.done)
    assert configuring.result().success
    assert manager.state == (2, "inactive")


def test_a_client_gets_the_complete_transition_graph(patient):
    _, manager = patient
    assert [(s.id, s.label) for s in manager.ask("get_available_states").available_states] == [
        (state.state_id, state.label) for state in STATES.values()
    ]
    graph = manager.ask("get_transition_graph").available_transitions
    edges = {(item.transition.id, item.start_state.label, item.goal_state.label) for item in graph}
    assert len(edges) == len(graph) == 25
    assert {(1, "unconfigured", "configuring"), (61, "errorprocessing", "finalized")} <= edges
    possible = manager.ask("get_available_transitions").available_transitions
    assert [(item.transition.id, item.transition.label) for item in possible] == [(1, "configure"), (5, "shutdown")]
