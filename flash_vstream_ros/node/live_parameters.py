"""Applies changes of parameters while the node runs, or refuses them with all reasons."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from flash_vstream_ros.engine.log_text import one_line
from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.node.parameter_table import BY_NAME
from flash_vstream_ros.node.parameters import current_settings, current_values, declare, problems
from flash_vstream_ros.node.settings import Settings
from flash_vstream_ros.ros import Node, Parameter, SetParametersResult

if TYPE_CHECKING:
    _Node = Node
else:
    _Node = object  # the class that uses the mixin adds the base


class LiveParameters(_Node):
    """Mixin that gives a node the parameters of the table; it comes before the node class in the list of bases.

    ROS 2 Humble has no post-set callback, and another on-set callback may refuse a change that ours accepted. So
    changes are applied when the runtime's own set methods return.
    """

    _apply: Callable[[Settings], None] | None = None

    def declare_settings(self, warn: Callable[[str], None], apply: Callable[[Settings], None]) -> Settings:
        """Declare the parameters. After every change, `apply` gets all settings, on the thread that made the change."""
        self._change_lock = threading.RLock()
        self._locked = True
        self._parameter_log = NodeLog(self)
        settings = declare(self, warn)
        self._apply = apply
        self.add_on_set_parameters_callback(self._on_set_parameters)
        return settings

    def no_parameter_changes(self) -> AbstractContextManager[Any]:
        """A lock. In its `with` block no other thread changes a parameter, and all earlier changes are applied."""
        return self._change_lock

    @property
    def parameters_locked(self) -> bool:
        """Returns True if parameters that are not live cannot change, since they are in use."""
        return self._locked

    def lock_parameters(self, locked: bool) -> None:
        """Forbid or allow changes of parameters that are not live."""
        with self._change_lock:
            self._locked = locked
            for spec in BY_NAME.values():
                self.describe_parameter(spec.name).read_only = spec.initial or (locked and not spec.live)

    def set_parameters(self, parameter_list: Sequence[Parameter]) -> list[Any]:
        return [self.set_parameters_atomically([parameter]) for parameter in parameter_list]

    def set_parameters_atomically(self, parameter_list: Sequence[Parameter]) -> Any:
        with self._change_lock:
            return self._finish(parameter_list, super().set_parameters_atomically(parameter_list))

    def _finish(self, parameters: Sequence[Parameter], result: Any) -> Any:
        """Apply the parameters that were set. After a refusal, give all reasons; ROS gives only the first."""
        names = [parameter.name for parameter in parameters if parameter.name in BY_NAME]
        if self._apply is None or not names:
            return result
        if not result.successful:
            result.reason = self._problems(parameters) or result.reason
            return result
        try:
            self._apply(current_settings(self))
            values = (f"{name} to {one_line(repr(self.get_parameter(name).value))}" for name in names)
            self._parameter_log.info("set " + ", ".join(values))
        except Exception:  # rclpy would end the node
            self._parameter_log.error(f"{', '.join(names)} could not be applied: {traceback.format_exc()}")
        return result

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> Any:
        found = self._problems(parameters)
        return SetParametersResult(successful=not found, reason=found)

    def _problems(self, parameters: Sequence[Parameter]) -> str:
        wanted = {parameter.name: parameter.value for parameter in parameters}
        return "; ".join(problems(current_values(self), wanted, locked=self._locked))
