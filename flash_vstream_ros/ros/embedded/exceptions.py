"""The exceptions of rclpy that this runtime raises, under rclpy's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .parameter import Parameter


MAX_QUOTED = 200  # most characters of a value in a sentence


def shortened(value: Any) -> str:
    """The repr of a value, cut to a length that a sentence may quote."""
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}... ({len(text)} characters)"


class NotInitializedException(Exception):
    """The runtime was used before init() or after shutdown()."""


class ExternalShutdownException(Exception):
    """Spinning ended because the context was shut down by a signal or by another thread."""


class UnsupportedEventTypeError(RuntimeError):
    """Never raised here: Cyclone DDS has every event."""


class InvalidHandle(Exception):
    """An entity was used after it was destroyed."""


class ROSArgumentError(ValueError):
    """A `--ros-args` argument or a parameter file cannot be understood."""


class NameValidationException(ValueError):
    def __init__(self, kind: str, name: str, reason: str, index: int) -> None:
        super().__init__(f"Invalid {kind}: {reason}:\n  '{name}'\n   {' ' * index}^")


class ParameterException(Exception):
    def __init__(self, error_msg: str, parameters: str | list[str]) -> None:
        super().__init__(f"{error_msg}: {shortened(parameters)}")


class ParameterNotDeclaredException(ParameterException):
    def __init__(self, parameters: str | list[str]) -> None:
        super().__init__("Not declared", parameters)


class ParameterAlreadyDeclaredException(ParameterException):
    def __init__(self, parameters: str | list[str]) -> None:
        super().__init__("Already declared", parameters)


class InvalidParameterException(ParameterException):
    def __init__(self, parameter_name: str) -> None:
        super().__init__("Not a parameter name", parameter_name)


class InvalidParameterTypeException(ParameterException):
    def __init__(self, desired_parameter: Parameter, expected_type: str) -> None:
        super().__init__(
            f"'{desired_parameter.name}' is {shortened(desired_parameter.value)} of type "
            f"'{desired_parameter.type_.name}', expected type '{expected_type}'",
            desired_parameter.name,
        )


class InvalidParameterValueException(ParameterException):
    def __init__(self, parameter: str, value: Any, reason: str) -> None:
        super().__init__(f"The value {shortened(value)} was refused ({reason})", parameter)
