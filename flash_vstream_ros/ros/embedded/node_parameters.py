"""The parameters of one node: values, descriptors, and the callbacks that may refuse a change."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

from .exceptions import (
    InvalidParameterException,
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterNotDeclaredException,
    shortened,
)
from .parameter import Parameter
from .types import message_class

Validator = Callable[[list[Parameter]], Any]  # -> rcl_interfaces/SetParametersResult


def _result(reason: str = "") -> Any:
    return message_class("rcl_interfaces/msg/SetParametersResult")(successful=not reason, reason=reason)


class NodeParameters:
    """The methods of a node for its parameters, as in rclpy.node.Node."""

    def __init__(self, overrides: dict[str, Parameter]) -> None:
        self._parameter_overrides = overrides
        self._declared: dict[str, Parameter] = {}
        self._descriptors: dict[str, Any] = {}
        self._on_set_callbacks: list[Validator] = []
        self._post_set_callbacks: list[Callable[[list[Parameter]], None]] = []
        self._declaration_lock = threading.RLock()

    def on_parameter_change(self, new: list[Parameter], changed: list[Parameter]) -> None:
        """Called after parameters were declared (`new`) or set (`changed`)."""

    def declare_parameter(
        self, name: str, value: Any, descriptor: Any = None, ignore_override: bool = False
    ) -> Parameter:
        """Declare a parameter with the type of `value`. An override from the start of the node replaces the value.

        Raises ParameterAlreadyDeclaredException, InvalidParameterException, InvalidParameterTypeException (the
        override has another type) or InvalidParameterValueException (out of range, or refused by a callback).
        """
        with self._declaration_lock:
            if name in self._declared:
                raise ParameterAlreadyDeclaredException(name)
            if not name or name.startswith(".") or name.endswith("."):
                raise InvalidParameterException(name)
            parameter = self._initial(name, Parameter(name, None, value), ignore_override)
            described: Any = descriptor or message_class("rcl_interfaces/msg/ParameterDescriptor")()
            described.name, described.type = name, parameter.type_.value
            self._descriptors[name] = described
            problem = self._problem(parameter, initial=True) or self._ask_callbacks([parameter])
            if problem:
                del self._descriptors[name]
                raise InvalidParameterValueException(name, parameter.value, problem)
            self._declared[name] = parameter
        self.on_parameter_change([parameter], [])
        return parameter

    def _initial(self, name: str, default: Parameter, ignore_override: bool) -> Parameter:
        if ignore_override or name not in self._parameter_overrides:
            return default
        override = self._parameter_overrides[name]
        if not default.type_.check(override.value):
            raise InvalidParameterTypeException(override, default.type_.name)
        return Parameter(name, default.type_, override.value)

    def undeclare_parameter(self, name: str) -> None:
        with self._declaration_lock:
            if name not in self._declared:
                raise ParameterNotDeclaredException(name)
            del self._declared[name]
            del self._descriptors[name]

    def has_parameter(self, name: str) -> bool:
        return name in self._declared

    @property
    def parameter_names(self) -> list[str]:
        with self._declaration_lock:
            return list(self._declared)

    def get_parameter(self, name: str) -> Parameter:
        with self._declaration_lock:
            if name not in self._declared:
                raise ParameterNotDeclaredException(name)
            return self._declared[name]

    def describe_parameter(self, name: str) -> Any:
        with self._declaration_lock:
            if name not in self._descriptors:
                raise ParameterNotDeclaredException(name)
            return self._descriptors[name]

    def set_parameters(self, parameter_list: Sequence[Parameter]) -> list[Any]:
        """Set parameters one by one. Returns a SetParametersResult for each. Raises ParameterNotDeclaredException."""
        return [self._set([parameter]) for parameter in parameter_list]

    def set_parameters_atomically(self, parameter_list: Sequence[Parameter]) -> Any:
        """Set all parameters or none. Returns a SetParametersResult. Raises ParameterNotDeclaredException."""
        return self._set(parameter_list)

    def _set(self, parameter_list: Sequence[Parameter]) -> Any:
        with self._declaration_lock:
            undeclared = [parameter.name for parameter in parameter_list if parameter.name not in self._declared]
            if undeclared:
                raise ParameterNotDeclaredException(undeclared)
            wanted = [self._typed(parameter) for parameter in parameter_list]
            problem = next(filter(None, map(self._problem, wanted)), "") or self._ask_callbacks(wanted)
            if problem:
                return _result(problem)
            for parameter in wanted:
                self._declared[parameter.name] = parameter
        for done in self._post_set_callbacks:
            done(wanted)
        self.on_parameter_change([], wanted)
        return _result()

    def _typed(self, parameter: Parameter) -> Parameter:
        """Give an empty list the declared type."""
        if parameter.value not in ([], ()):
            return parameter
        type_ = Parameter.Type(self._descriptors[parameter.name].type)
        return Parameter(parameter.name, type_, parameter.value) if type_.check(parameter.value) else parameter

    def _problem(self, parameter: Parameter, *, initial: bool = False) -> str:
        """The reason why the descriptor forbids a value; "" if it does not."""
        descriptor = self._descriptors[parameter.name]
        name, value = parameter.name, parameter.value
        if descriptor.read_only and not initial:
            return f"'{name}' is read-only"
        if parameter.type_.value != descriptor.type:
            expected = Parameter.Type(descriptor.type).name
            return f"'{name}' is of type {expected}, and {shortened(value)} is of type {parameter.type_.name}"
        if parameter.type_ == Parameter.Type.INTEGER and descriptor.integer_range:
            return _outside(name, value, descriptor.integer_range[0])
        if parameter.type_ == Parameter.Type.DOUBLE and descriptor.floating_point_range:
            return _outside(name, value, descriptor.floating_point_range[0])
        return ""

    def _ask_callbacks(self, parameters: list[Parameter]) -> str:
        """The reason why a callback refuses the values; "" if none does."""
        for callback in self._on_set_callbacks:
            result = callback(parameters)
            if not result.successful:
                return result.reason or "a callback refused it without giving a reason"
        return ""

    def add_on_set_parameters_callback(self, callback: Validator) -> None:
        """Call `callback(parameters) -> SetParametersResult` before values are set, the one added last first."""
        self._on_set_callbacks.insert(0, callback)

    def add_post_set_parameters_callback(self, callback: Callable[[list[Parameter]], None]) -> None:
        """Call `callback(parameters)` after values were set."""
        self._post_set_callbacks.insert(0, callback)


def _outside(name: str, value: float, limits: Any) -> str:
    """A sentence that says which values `limits` allows; "" if they allow `value`."""
    low, high, step = limits.from_value, limits.to_value, limits.step
    if math.isnan(value) or not (low <= value <= high or _close(value, low) or _close(value, high)):
        return f"'{name}' must be from {low} to {high}, and {value} is not"
    if step and not _close(value, high):
        steps = (value - low) / step
        if not _close(steps, round(steps)):
            return f"'{name}' must be {low} plus a multiple of {step}, and {value} is not"
    return ""


def _close(left: float, right: float) -> bool:
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
