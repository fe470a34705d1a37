"""The exceptions that rclpy raises, under rclpy's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .parameter import Parameter


class NotInitializedException(Exception):
    """The runtime is used before init() or after shutdown()."""


class ExternalShutdownException(Exception):
    """Spinning ended because the context was shut down by a signal or by another thread."""


class ShutdownException(Exception):
    """Spinning ended because the executor was shut down."""


class InvalidHandle(Exception):
    """An entity is used after it was destroyed."""


class ROSArgumentError(ValueError):
    """A `--ros-args` argument or a parameter file cannot be understood."""


UnknownROSArgsError = ROSArgumentError


class NameValidationException(ValueError):
    def __init__(self, kind: str, name: str, reason: str, index: int) -> None:
        super().__init__(f"Invalid {kind}: {reason}:\n  '{name}'\n   {' ' * index}^")


class InvalidNamespaceException(NameValidationException):
    def __init__(self, name: str, reason: str, index: int) -> None:
        super().__init__("namespace", name, reason, index)


class InvalidNodeNameException(NameValidationException):
    def __init__(self, name: str, reason: str, index: int) -> None:
        super().__init__("node name", name, reason, index)


class InvalidTopicNameException(NameValidationException):
    def __init__(self, name: str, reason: str, index: int) -> None:
        super().__init__("topic name", name, reason, index)


class InvalidServiceNameException(NameValidationException):
    def __init__(self, name: str, reason: str, index: int) -> None:
        super().__init__("service name", name, reason, index)


class ParameterException(Exception):
    def __init__(self, error_msg: str, parameters: str | list[str]) -> None:
        super().__init__(f"{error_msg}: {parameters}")


class ParameterNotDeclaredException(ParameterException):
    def __init__(self, parameters: str | list[str]) -> None:
        super().__init__("Not declared", parameters)


class ParameterAlreadyDeclaredException(ParameterException):
    def __init__(self, parameters: str | list[str]) -> None:
        super().__init__("Declared before", parameters)


class InvalidParameterException(ParameterException):
    def __init__(self, parameter_name: str) -> None:
        super().__init__("Not a parameter name", parameter_name)


class ParameterUninitializedException(ParameterException):
    def __init__(self, parameter_name: str) -> None:
        super().__init__("Declared with a type but never given a value", parameter_name)


class ParameterImmutableException(ParameterException):
    def __init__(self, parameter_name: str) -> None:
        super().__init__("Read-only", parameter_name)


class InvalidParameterTypeException(ParameterException):
    def __init__(self, desired_parameter: Parameter, expected_type: str) -> None:
        super().__init__(
            f"'{desired_parameter.name}' is {desired_parameter.value!r} of type "
            f"'{desired_parameter.type_.name}', expected type '{expected_type}'",
            desired_parameter.name,
        )


class InvalidParameterValueException(ParameterException):
    def __init__(self, parameter: str, value: Any, reason: str) -> None:
        super().__init__(f"The value {value!r} was refused ({reason})", parameter)
