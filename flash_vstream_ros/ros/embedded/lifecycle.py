"""Managed nodes, as in rclpy.lifecycle: transition callbacks, and the services that request transitions."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from .callback_groups import CallbackGroup
from .exceptions import InvalidHandle
from .lifecycle_states import (
    STATES,
    TRANSITIONS,
    InvalidTransition,
    LifecycleState,
    LifecycleTransition,
    StateMachine,
    TransitionCallbackReturn,
)
from .node import Node
from .types import message_class, service_class

_CALLBACKS = {
    "configuring": "on_configure",
    "cleaningup": "on_cleanup",
    "shuttingdown": "on_shutdown",
    "activating": "on_activate",
    "deactivating": "on_deactivate",
    "errorprocessing": "on_error",
}

if TYPE_CHECKING:
    _Base = Node
else:
    _Base = object


class LifecycleNodeMixin(_Base):
    """The life cycle of a node. It comes before Node in the list of bases, but Node.__init__ is called first.

    Unlike rclpy's, it logs why a callback failed, and replies success = False if a requested transition is impossible.
    """

    def __init__(self, *, callback_group: CallbackGroup | None = None) -> None:
        event = message_class("lifecycle_msgs/msg/TransitionEvent")
        self._transition_events = self.create_publisher(event, "~/transition_event", 10)
        self._state_machine = StateMachine(self._publish_transition)
        for name, kind, callback in (
            ("change_state", "ChangeState", self._on_change_state),
            ("get_state", "GetState", self._on_get_state),
            ("get_available_states", "GetAvailableStates", self._on_get_available_states),
            ("get_available_transitions", "GetAvailableTransitions", self._on_get_available_transitions),
            ("get_transition_graph", "GetAvailableTransitions", self._on_get_transition_graph),
        ):
            service_type = service_class(f"lifecycle_msgs/srv/{kind}")
            self.create_service(service_type, f"~/{name}", callback, callback_group=callback_group)

    def _succeed(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Default callback of a transition. `state` is the state before the transition.

        on_error is called after another callback returned ERROR or raised an exception. If on_error returns SUCCESS,
        the node becomes unconfigured, else finalized.
        """
        return TransitionCallbackReturn.SUCCESS

    on_configure = on_activate = on_deactivate = on_cleanup = on_shutdown = on_error = _succeed

    def trigger_configure(self) -> TransitionCallbackReturn:
        """Run the transition. Returns its callback's result. Raises RuntimeError if it is not possible."""
        return self._change_state("configure")

    def trigger_activate(self) -> TransitionCallbackReturn:
        return self._change_state("activate")

    def _change_state(self, wanted: int | str) -> TransitionCallbackReturn:
        before = self._state_machine.begin(wanted)
        result = self._run_callback(before)
        self._state_machine.end(result)
        if result is TransitionCallbackReturn.ERROR:
            self._state_machine.end(self._run_callback(before))
        return result

    def _run_callback(self, before: LifecycleState) -> TransitionCallbackReturn:
        name = _CALLBACKS[self._state_machine.current.label]
        try:
            result = getattr(self, name)(before)
        except Exception:
            self.get_logger().error(f"{name} failed: {traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR
        if not isinstance(result, TransitionCallbackReturn):
            self.get_logger().error(f"{name} returned {result!r}, expected a TransitionCallbackReturn")
            return TransitionCallbackReturn.ERROR
        return result

    def _publish_transition(self, transition: LifecycleTransition) -> None:
        message = self._transition_events.msg_type(
            timestamp=self.get_clock().now().nanoseconds,
            transition=_transition_message(transition),
            start_state=_state_message(transition.start),
            goal_state=_state_message(transition.goal),
        )
        try:
            self._transition_events.publish(message)
        except InvalidHandle:
            return  # the process is shutting down

    def _on_change_state(self, request: Any, response: Any) -> Any:
        try:
            result = self._change_state(request.transition.label or request.transition.id)
        except InvalidTransition as error:
            self.get_logger().warning(str(error))
            return response
        response.success = result is TransitionCallbackReturn.SUCCESS
        return response

    def _on_get_state(self, _: Any, response: Any) -> Any:
        response.current_state = _state_message(self._state_machine.current)
        return response

    def _on_get_available_states(self, _: Any, response: Any) -> Any:
        response.available_states = [_state_message(state) for state in STATES.values()]
        return response

    def _on_get_available_transitions(self, _: Any, response: Any) -> Any:
        response.available_transitions = [_description(transition) for transition in self._state_machine.available]
        return response

    def _on_get_transition_graph(self, _: Any, response: Any) -> Any:
        response.available_transitions = [_description(transition) for transition in TRANSITIONS]
        return response


def _state_message(state: LifecycleState) -> Any:
    return message_class("lifecycle_msgs/msg/State")(id=state.state_id, label=state.label)


def _transition_message(transition: LifecycleTransition) -> Any:
    return message_class("lifecycle_msgs/msg/Transition")(id=transition.transition_id, label=transition.label)


def _description(transition: LifecycleTransition) -> Any:
    return message_class("lifecycle_msgs/msg/TransitionDescription")(
        transition=_transition_message(transition),
        start_state=_state_message(transition.start),
        goal_state=_state_message(transition.goal),
    )
