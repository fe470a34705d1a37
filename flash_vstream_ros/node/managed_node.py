"""A managed node that refuses impossible transitions, answers while a transition runs, and can start itself.

rclpy's own LifecycleNode ends its process when an unknown transition is requested, hides exceptions of callbacks, and
answers no service while a transition callback runs.
"""

from __future__ import annotations

import re
import threading
import traceback
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.ros import (
    LifecycleNodeMixin,
    LifecycleState,
    MutuallyExclusiveCallbackGroup,
    Node,
    ReentrantCallbackGroup,
    TransitionCallbackReturn,
)
from flash_vstream_ros.ros.interfaces import interface

ChangeState = interface("lifecycle_msgs/srv/ChangeState")
TYPE_HASH = re.compile(r"RIHS01_[0-9a-f]{64}")  # REP 2016
Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]


def error_if_it_raises(callback: Transition) -> Transition:
    """Decorate a transition callback: an exception is logged and runs `on_error`."""

    @wraps(callback)
    def guarded(self: ManagedNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(self, state)
        except Exception:
            self.log.error(f"{callback.__name__} failed: {traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR

    return guarded


class ManagedNode(LifecycleNodeMixin, Node):
    """Runs one transition at a time. Refuses impossible transitions, and requests during another transition."""

    def __init__(self, name: str) -> None:
        Node.__init__(self, name)
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self.log = NodeLog(self)
        self.starting = False
        self._transition_lock = threading.Lock()
        self._autostart = self.create_guard_condition(self._start, MutuallyExclusiveCallbackGroup())
        for service in self.services:
            if service.srv_type is ChangeState:
                service.callback = partial(self._on_change_request, service.callback)
            elif service.srv_name.endswith("get_type_description"):
                service.callback = partial(_on_type_request, service.callback)

    def autostart(self) -> None:
        """Configure and activate as soon as an executor spins this node. `starting` is True until then."""
        self.starting = True
        self._autostart.trigger()

    def wait_for_transition(self, timeout_s: float) -> None:
        """Wait until no transition runs, at most `timeout_s` seconds."""
        if self._transition_lock.acquire(timeout=timeout_s):
            self._transition_lock.release()

    def _start(self) -> None:
        try:
            with self._transition_lock:
                if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
                    self.trigger_activate()
        except Exception as error:
            self.log.warning(f"autostart failed: {error}; use ros2 lifecycle set")
        finally:
            self.starting = False

    def _on_change_request(self, change: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
        wanted = request.transition.label or request.transition.id
        if not self._transition_lock.acquire(blocking=False):
            self.log.warning(f"transition {wanted!r} is refused: another one is running; try again when it has ended")
            return response
        try:
            return change(request, response)
        except Exception as error:
            self.log.warning(f"transition {wanted!r} is refused: {error}")
            return ChangeState.Response(success=False)
        finally:
            self._transition_lock.release()


def _on_type_request(describe: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
    """Refuse an invalid type hash; rcl would log it, however long, for each request."""
    if TYPE_HASH.fullmatch(request.type_hash):
        return describe(request, response)
    response.successful = False
    response.failure_reason = "type_hash is not of the form RIHS01_ and 64 hexadecimal digits"
    return response
