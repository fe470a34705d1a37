"""The parameters of one node: what is declared, with which limits, and who may refuse a change."""

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
    ParameterUninitializedException,
)
from .parameter import Parameter
from .types import message_class

Validator = Callable[[list[Parameter]], Any]  # -> rcl_interfaces/SetParametersResult


def _result(reason: str = "") -> Any:
    return message_class("rcl_interfaces/msg/SetParametersResult")(successful=not reason, reason=reason)


class Parameters:
    def __init__(self, overrides: dict[str, Parameter], *, allow_undeclared: bool = False) -> None:
        self.overrides = overrides
        self.allow_undeclared = allow_undeclared
        self._values: dict[str, Parameter] = {}
        self._descriptors: dict[str, Any] = {}
        self._pre_set: list[Callable[[list[Parameter]], list[Parameter]]] = []
        self._on_set: list[Validator] = []
        self._post_set: list[Callable[[list[Parameter]], None]] = []
        self.on_change: Callable[[list[Parameter], list[Parameter]], None] = lambda new, changed: None
        self._lock = threading.RLock()

    def declare(self, name: str, value: Any, descriptor: Any, ignore_override: bool) -> Parameter:
        with self._lock:
            if name in self._values:
                raise ParameterAlreadyDeclaredException(name)
            if not name or name.startswith(".") or name.endswith("."):
                raise InvalidParameterException(name)
            parameter, described = self._initial(name, value, descriptor, ignore_override)
            self._descriptors[name] = described
            problem = self._problem(parameter, initial=True)
            if not problem and parameter.type_ != Parameter.Type.NOT_SET:
                problem = self._ask_callbacks([parameter])
            if problem:
                del self._descriptors[name]
                raise InvalidParameterValueException(name, parameter.value, problem)
            self._values[name] = parameter
        self.on_change([parameter], [])
        return parameter

    def _initial(self, name: str, value: Any, descriptor: Any, ignore_override: bool) -> tuple[Parameter, Any]:
        described: Any = descriptor or message_class("rcl_interfaces/msg/ParameterDescriptor")()
        described.name = name
        if isinstance(value, Parameter.Type):
            type_, default = value, Parameter(name)
        else:
            default = Parameter(name, None, value)
            type_ = default.type_
        if not described.dynamic_typing:
            if type_ == Parameter.Type.NOT_SET:
                described.dynamic_typing = True
            described.type = type_.value
        if ignore_override or name not in self.overrides:
            return default, described
        override = self.overrides[name]
        if not described.dynamic_typing:
            if not type_.check(override.value):
                raise InvalidParameterTypeException(override, type_.name)
            override = Parameter(name, type_, override.value)
        return override, described

    def undeclare(self, name: str) -> None:
        with self._lock:
            if name not in self._values:
                raise ParameterNotDeclaredException(name)
            del self._values[name]
            del self._descriptors[name]

    def has(self, name: str) -> bool:
        return name in self._values

    @property
    def names(self) -> list[str]:
        with self._lock:
            return list(self._values)

    def get(self, name: str) -> Parameter:
        with self._lock:
            if name not in self._values:
                if self.allow_undeclared:
                    return Parameter(name)
                raise ParameterNotDeclaredException(name)
            parameter = self._values[name]
            if parameter.type_ == Parameter.Type.NOT_SET and not self._descriptors[name].dynamic_typing:
                raise ParameterUninitializedException(name)
            return parameter

    def describe(self, name: str) -> Any:
        with self._lock:
            if name not in self._descriptors:
                raise ParameterNotDeclaredException(name)
            return self._descriptors[name]

    def set_atomically(self, parameters: Sequence[Parameter]) -> Any:
        """Set all or none. -> rcl_interfaces/SetParametersResult; raises ParameterNotDeclaredException."""
        with self._lock:
            wanted = list(parameters)
            for callback in self._pre_set:
                wanted = callback(wanted)
            undeclared = [parameter.name for parameter in wanted if parameter.name not in self._values]
            if undeclared and not self.allow_undeclared:
                raise ParameterNotDeclaredException(undeclared)
            wanted = [self._typed(parameter) for parameter in wanted]
            problem = next(filter(None, map(self._problem, wanted)), "") or self._ask_callbacks(wanted)
            if problem:
                return _result(problem)
            for name in undeclared:
                descriptor = message_class("rcl_interfaces/msg/ParameterDescriptor")
                self._descriptors[name] = descriptor(name=name, dynamic_typing=True)
            for parameter in wanted:
                self._values[parameter.name] = parameter
        for done in self._post_set:
            done(wanted)
        new = [parameter for parameter in wanted if parameter.name in undeclared]
        self.on_change(new, [parameter for parameter in wanted if parameter not in new])
        return _result()

    def _typed(self, parameter: Parameter) -> Parameter:
        """An empty list is a list of whatever was declared."""
        descriptor = self._descriptors.get(parameter.name)
        if descriptor is None or descriptor.dynamic_typing or parameter.value not in ([], ()):
            return parameter
        type_ = Parameter.Type(descriptor.type)
        return Parameter(parameter.name, type_, parameter.value) if type_.check(parameter.value) else parameter

    def _problem(self, parameter: Parameter, *, initial: bool = False) -> str:
        """Why the descriptor forbids a value; empty where it does not."""
        descriptor = self._descriptors.get(parameter.name)
        if descriptor is None:
            return ""
        name, value = parameter.name, parameter.value
        if initial and parameter.type_ == Parameter.Type.NOT_SET:
            return ""
        if descriptor.read_only and not initial:
            return f"'{name}' is read-only"
        if not descriptor.dynamic_typing and parameter.type_.value != descriptor.type:
            expected = Parameter.Type(descriptor.type).name
            return f"'{name}' is of type {expected}, and {value!r} is of type {parameter.type_.name}"
        if parameter.type_ == Parameter.Type.INTEGER and descriptor.integer_range:
            return _outside(name, value, descriptor.integer_range[0])
        if parameter.type_ == Parameter.Type.DOUBLE and descriptor.floating_point_range:
            return _outside(name, value, descriptor.floating_point_range[0])
        return ""

    def _ask_callbacks(self, parameters: list[Parameter]) -> str:
        for callback in self._on_set:
            result = callback(parameters)
            if not result.successful:
                return result.reason or "a callback refused it without giving a reason"
        return ""

    def add_pre_set(self, callback: Callable[[list[Parameter]], list[Parameter]]) -> None:
        self._pre_set.insert(0, callback)

    def add_on_set(self, callback: Validator) -> None:
        self._on_set.insert(0, callback)  # the last one added is asked first

    def add_post_set(self, callback: Callable[[list[Parameter]], None]) -> None:
        self._post_set.insert(0, callback)

    def remove(self, callback: Any) -> None:
        for callbacks in (self._pre_set, self._on_set, self._post_set):
            if callback in callbacks:
                callbacks.remove(callback)
                return
        raise ValueError("This callback was never added")


def _outside(name: str, value: float, limits: Any) -> str:
    low, high, step = limits.from_value, limits.to_value, limits.step
    if math.isnan(value) or not (low <= value <= high or _close(value, low) or _close(value, high)):
        return f"'{name}' has to be from {low} to {high}, and {value} is not"
    if step and not _close(value, high):
        steps = (value - low) / step
        if not _close(steps, round(steps)):
            return f"'{name}' has to be {low} plus a multiple of {step}, and {value} is not"
    return ""


def _close(left: float, right: float) -> bool:
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
