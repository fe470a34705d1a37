"""The methods of a node that concern its parameters, as in rclpy.node.Node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .parameter import Parameter
from .parameters import Parameters, Validator


class NodeParameters:
    parameters: Parameters
    _parameter_overrides: dict[str, Parameter]

    def declare_parameter(
        self, name: str, value: Any = None, descriptor: Any = None, ignore_override: bool = False
    ) -> Parameter:
        """Declare a parameter by a default value or a Parameter.Type; an override given at start wins.

        Raises ParameterAlreadyDeclaredException, InvalidParameterException, InvalidParameterTypeException (the
        override has another type) or InvalidParameterValueException (out of range, or refused by a callback).
        """
        return self.parameters.declare(name, value, descriptor, ignore_override)

    def declare_parameters(
        self, namespace: str, parameters: Sequence[tuple[Any, ...]], ignore_override: bool = False
    ) -> list[Parameter]:
        """Declare (name,), (name, value) or (name, value, descriptor) each, under `namespace` and a dot."""
        prefix = f"{namespace}." if namespace else ""
        declared = []
        for name, *rest in parameters:
            value = rest[0] if rest else None
            descriptor = rest[1] if len(rest) > 1 else None
            declared.append(self.declare_parameter(prefix + name, value, descriptor, ignore_override))
        return declared

    def undeclare_parameter(self, name: str) -> None:
        self.parameters.undeclare(name)

    def has_parameter(self, name: str) -> bool:
        return self.parameters.has(name)

    def get_parameter(self, name: str) -> Parameter:
        """Raises ParameterNotDeclaredException, or ParameterUninitializedException when it has no value yet."""
        return self.parameters.get(name)

    def get_parameters(self, names: Sequence[str]) -> list[Parameter]:
        return [self.get_parameter(name) for name in names]

    def get_parameter_or(self, name: str, alternative_value: Parameter | None = None) -> Parameter:
        if self.has_parameter(name) and self.parameters.get(name).type_ != Parameter.Type.NOT_SET:
            return self.parameters.get(name)
        return alternative_value or Parameter(name)

    def get_parameters_by_prefix(self, prefix: str) -> dict[str, Parameter]:
        start = f"{prefix}." if prefix else ""
        return {
            name[len(start) :]: self.parameters.get(name) for name in self.parameters.names if name.startswith(start)
        }

    def get_parameter_type(self, name: str) -> Parameter.Type:
        return self.get_parameter(name).type_

    def set_parameters(self, parameter_list: Sequence[Parameter]) -> list[Any]:
        """Set one after the other. -> a SetParametersResult each; raises ParameterNotDeclaredException."""
        return [self.parameters.set_atomically([parameter]) for parameter in parameter_list]

    def set_parameters_atomically(self, parameter_list: Sequence[Parameter]) -> Any:
        """Set all or none. -> SetParametersResult; raises ParameterNotDeclaredException."""
        return self.parameters.set_atomically(parameter_list)

    def describe_parameter(self, name: str) -> Any:
        return self.parameters.describe(name)

    def describe_parameters(self, names: Sequence[str]) -> list[Any]:
        return [self.parameters.describe(name) for name in names]

    def add_pre_set_parameters_callback(self, callback: Callable[[list[Parameter]], list[Parameter]]) -> None:
        self.parameters.add_pre_set(callback)

    def add_on_set_parameters_callback(self, callback: Validator) -> None:
        """Ask `callback(parameters) -> SetParametersResult` before values are set; the last one added goes first."""
        self.parameters.add_on_set(callback)

    def add_post_set_parameters_callback(self, callback: Callable[[list[Parameter]], None]) -> None:
        self.parameters.add_post_set(callback)

    def remove_pre_set_parameters_callback(self, callback: Any) -> None:
        self.parameters.remove(callback)

    def remove_on_set_parameters_callback(self, callback: Any) -> None:
        self.parameters.remove(callback)

    def remove_post_set_parameters_callback(self, callback: Any) -> None:
        self.parameters.remove(callback)
