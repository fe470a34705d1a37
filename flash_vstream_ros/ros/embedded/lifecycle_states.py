"""The states of a managed node and the transitions between them (design.ros2.org/articles/node_lifecycle.html)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple


class LifecycleState(NamedTuple):
    """The label and the id of lifecycle_msgs/State."""

    label: str
    state_id: int


class LifecycleTransition(NamedTuple):
    """A change of state. Those with ids below 10 can be requested; others follow from a callback's result."""

    transition_id: int
    label: str
    start: LifecycleState
    goal: LifecycleState


class TransitionCallbackReturn(Enum):
    """Result of a transition callback: the constants of lifecycle_msgs/Transition."""

    SUCCESS = 97
    FAILURE = 98
    ERROR = 99

    def to_label(self) -> str:
        return f"transition_{self.name.lower()}"


class InvalidTransition(RuntimeError):
    """The requested transition does not start in the current state."""


STATES = {
    label: LifecycleState(label, number)
    for label, number in (
        ("unknown", 0),
        ("unconfigured", 1),
        ("inactive", 2),
        ("active", 3),
        ("finalized", 4),
        ("configuring", 10),
        ("cleaningup", 11),
        ("shuttingdown", 12),
        ("activating", 13),
        ("deactivating", 14),
        ("errorprocessing", 15),
    )
}

# Rows: label; state while the transition runs; first id of the three ends (success, failure, error); goals of the ends;
# requests, as id and state in which the request is possible.
_TABLE: tuple[tuple[str, str, int, tuple[str, str, str], dict[int, str]], ...] = (
    ("configure", "configuring", 10, ("inactive", "unconfigured", "errorprocessing"), {1: "unconfigured"}),
    ("cleanup", "cleaningup", 20, ("unconfigured", "inactive", "errorprocessing"), {2: "inactive"}),
    ("activate", "activating", 30, ("active", "inactive", "errorprocessing"), {3: "inactive"}),
    ("deactivate", "deactivating", 40, ("inactive", "active", "errorprocessing"), {4: "active"}),
    (
        "shutdown",
        "shuttingdown",
        50,
        ("finalized", "finalized", "errorprocessing"),
        {5: "unconfigured", 6: "inactive", 7: "active"},
    ),
    ("", "errorprocessing", 60, ("unconfigured", "finalized", "finalized"), {}),
)


def _transitions() -> Iterator[LifecycleTransition]:
    for label, during, first_id, goals, starts in _TABLE:
        for number, start in starts.items():
            yield LifecycleTransition(number, label, STATES[start], STATES[during])
        for offset, (ending, goal) in enumerate(zip(TransitionCallbackReturn, goals, strict=True)):
            yield LifecycleTransition(first_id + offset, ending.to_label(), STATES[during], STATES[goal])


TRANSITIONS = tuple(_transitions())


class StateMachine:
    """The current state of a node. A transition must end before another one begins."""

    def __init__(self, on_change: Callable[[LifecycleTransition], None]) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()
        self.current = STATES["unconfigured"]

    @property
    def available(self) -> list[LifecycleTransition]:
        """The transitions that start in the current state."""
        return [transition for transition in TRANSITIONS if transition.start == self.current]

    def begin(self, wanted: int | str) -> LifecycleState:
        """Begin the transition with this id or label. Returns the previous state. Raises InvalidTransition."""
        with self._lock:
            before = self.current
            possible = [transition for transition in self.available if transition.transition_id < 10]
            for transition in possible:
                if wanted in (transition.transition_id, transition.label):
                    break
            else:
                labels = ", ".join(transition.label for transition in possible) or "none"
                raise InvalidTransition(f"no transition {wanted!r} from state {before.label}; possible: {labels}")
            self.current = transition.goal
        self._on_change(transition)
        return before

    def end(self, result: TransitionCallbackReturn) -> None:
        """End the transition with its callback's result."""
        ending = next(transition for transition in self.available if transition.label == result.to_label())
        self.current = ending.goal
        self._on_change(ending)
