"""Parameters that change while the node runs: refused with every reason, or applied as a whole."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from flash_vstream_ros.node.parameters import BY_NAME, Settings, declare, problems, settings_of
from flash_vstream_ros.ros import Node, Parameter, SetParametersResult

if TYPE_CHECKING:
    _Node = Node
else:
    _Node = object  # the node's class decides which kind of node it is


class LiveParameters(_Node):
    """What a node of this package inherits before its node class to have the table's parameters.

    ROS 2 Humble has no callback for after a change, and another callback may refuse what ours has accepted. So
    changes are applied where the runtime's own methods return.
    """

    _apply: Callable[[Settings], None] | None = None

    def declare_settings(self, complain: Callable[[str], None], apply: Callable[[Settings], None]) -> Settings:
        """Declare the parameters; `apply` gets all settings, on the setter's thread, whenever some have changed."""
        self._one_change = threading.RLock()
        self._locked = True
        settings = declare(self, complain)
        self._apply = apply
        self.add_on_set_parameters_callback(self._on_set_parameters)
        return settings

    def parameters_at_rest(self) -> AbstractContextManager[Any]:
        """While it is held no other thread changes a parameter; what was changed before is applied."""
        return self._one_change

    @property
    def parameters_locked(self) -> bool:
        return self._locked

    def lock_parameters(self, locked: bool) -> None:
        """Whether parameters that are not dynamic are in use. They can be set while nothing uses them."""
        with self._one_change:
            self._locked = locked
            for spec in BY_NAME.values():
                self.describe_parameter(spec.name).read_only = spec.initial or (locked and not spec.dynamic)

    def set_parameters(self, parameter_list: Sequence[Parameter]) -> list[Any]:
        results: list[Any] = []
        for parameter in parameter_list:
            with self._one_change:
                results += [self._done([parameter], result) for result in super().set_parameters([parameter])]
        return results

    def set_parameters_atomically(self, parameter_list: Sequence[Parameter]) -> Any:
        with self._one_change:
            return self._done(parameter_list, super().set_parameters_atomically(parameter_list))

    def _done(self, parameters: Sequence[Parameter], result: Any) -> Any:
        """Apply what was set; else say everything that is wrong, where ROS itself names the first thing only."""
        names = [parameter.name for parameter in parameters if parameter.name in BY_NAME]
        if self._apply is None or not names:
            return result
        if not result.successful:
            result.reason = self._problems(parameters) or result.reason
            return result
        try:
            self._apply(settings_of(self))
            self.get_logger().info(
                "set " + ", ".join(f"{name} to {self.get_parameter(name).value!r}" for name in names)
            )
        except Exception:  # a defect is said: rclpy would end the node
            message = f"{names} could not be applied: {traceback.format_exc()}"
            self.get_logger().error(message, throttle_duration_sec=10.0)
        return result

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> Any:
        found = self._problems(parameters)
        return SetParametersResult(successful=not found, reason=found)

    def _problems(self, parameters: Sequence[Parameter]) -> str:
        values = {name: self.get_parameter(name).value for name in BY_NAME}
        wanted = {parameter.name: parameter.value for parameter in parameters}
        return "; ".join(problems(values, wanted, locked=self._locked))
