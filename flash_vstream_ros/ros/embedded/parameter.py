"""A parameter: name, type and value, as in rclpy.parameter."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from .types import message_class


class Parameter:
    """The value of a parameter. Its type follows from the value unless it is given."""

    class Type(Enum):
        """The constants of rcl_interfaces/ParameterType."""

        NOT_SET = 0
        BOOL = 1
        INTEGER = 2
        DOUBLE = 3
        STRING = 4
        BYTE_ARRAY = 5
        BOOL_ARRAY = 6
        INTEGER_ARRAY = 7
        DOUBLE_ARRAY = 8
        STRING_ARRAY = 9

        @classmethod
        def from_parameter_value(cls, value: Any) -> Parameter.Type:
            """The type that a Python value has as a parameter. Raises TypeError if it has none."""
            if value is None:
                return cls.NOT_SET
            for python_type, scalar, collection in _TYPES:
                if scalar and isinstance(value, python_type):
                    return cls[scalar]
                # type() instead of isinstance(), since a bool is an instance of int.
                if isinstance(value, (list, tuple)) and all(type(item) is python_type for item in value):
                    return cls[collection]
            raise TypeError(f"{value!r} cannot be the value of a parameter")

        def check(self, value: Any) -> bool:
            """Returns True if `value` has this type. An empty list has every array type."""
            if isinstance(value, (list, tuple)) and not value:
                return self.name.endswith("_ARRAY")
            try:
                return Parameter.Type.from_parameter_value(value) == self
            except TypeError:
                return False

    def __init__(self, name: str, type_: Parameter.Type | None = None, value: Any = None) -> None:
        self.name: Final = name
        self.type_: Final = Parameter.Type.from_parameter_value(value) if type_ is None else type_
        self.value: Final[Any] = value
        if not self.type_.check(value):
            raise ValueError(f"The value {value!r} of parameter '{name}' is not of type {self.type_.name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parameter) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def get_parameter_value(self) -> Any:
        """The value as rcl_interfaces/ParameterValue."""
        message: Any = message_class("rcl_interfaces/msg/ParameterValue")(type=self.type_.value)
        if self.type_ != Parameter.Type.NOT_SET:
            value = self.value
            if self.type_ == Parameter.Type.BYTE_ARRAY:
                value = b"".join(value)
            elif self.type_.name.endswith("_ARRAY"):
                value = list(value)
            setattr(message, f"{self.type_.name.lower()}_value", value)
        return message

    def to_parameter_msg(self) -> Any:
        """The parameter as rcl_interfaces/Parameter."""
        return message_class("rcl_interfaces/msg/Parameter")(name=self.name, value=self.get_parameter_value())

    @classmethod
    def from_parameter_msg(cls, message: Any) -> Parameter:
        type_ = Parameter.Type(message.value.type)
        if type_ == Parameter.Type.NOT_SET:
            return cls(message.name, type_, None)
        value = getattr(message.value, f"{type_.name.lower()}_value")
        if type_ == Parameter.Type.BYTE_ARRAY:
            value = [bytes([byte]) for byte in value]
        elif type_.name.endswith("_ARRAY"):
            value = value.tolist() if hasattr(value, "tolist") else list(value)
        return cls(message.name, type_, value)


# Booleans before integers: Python's bool is an int.
_TYPES = (
    (bytes, "", "BYTE_ARRAY"),
    (bool, "BOOL", "BOOL_ARRAY"),
    (int, "INTEGER", "INTEGER_ARRAY"),
    (float, "DOUBLE", "DOUBLE_ARRAY"),
    (str, "STRING", "STRING_ARRAY"),
)
