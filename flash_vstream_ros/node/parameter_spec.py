"""One parameter: name, default, limits and description, and the message about an invalid value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flash_vstream_ros.engine.log_text import one_line
from flash_vstream_ros.ros import FloatingPointRange, IntegerRange, ParameterDescriptor

Value = bool | int | float | str | list[str]
# ROS does not convert types: 1 is not a double.
TYPES = {bool: "a bool", int: "an integer", float: "a double, such as 1.0", str: "a string", list: "a list of strings"}
MAX_CHARS = 4096  # longest string; the limit is needed because any peer on the graph can set a parameter


@dataclass(frozen=True)
class ParameterSpec:
    """One row of the parameter table.

    A `live` parameter can change while the node runs. An `initial` one is read when the node is constructed, all
    others when it is configured. `field` is the dotted path of the settings field that holds the value; "": the path
    follows from the name, see settings.py.
    """

    name: str
    default: Value
    description: str  # without a final period: the meaning, then the special values, then the unit
    limits: tuple[float, float] | None = None  # smallest and largest number allowed
    choices: tuple[str, ...] = ()
    live: bool = False
    initial: bool = False
    field: str = ""
    if_invalid: Value | None = None  # value that replaces an invalid override; None: the default

    @property
    def fallback(self) -> Value:
        """The value that replaces an invalid override."""
        return self.default if self.if_invalid is None else self.if_invalid

    @property
    def meaning(self) -> str:
        """The description with choices and limits, for the documentation and config/vstream.yaml."""
        text = f"{self.description}."
        if self.choices:
            text += f" One of: {', '.join(self.choices)}."
        if self.limits is not None:
            text += f" {self.limits[0]:.10g} to {self.limits[1]:.10g}."
        return text

    def problem(self, value: Any) -> str:
        """A sentence that says why `value` is invalid; "" if it is valid."""
        expected = self._expected_instead_of(value)
        return f"{self.name!r} must be {expected}, not {one_line(repr(value))}" if expected else ""

    def _expected_instead_of(self, value: Any) -> str:
        """A description of valid values; "" if `value` is one."""
        if isinstance(self.default, list):
            right_type = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        else:
            right_type = type(value) is type(self.default)
        if not right_type:
            return TYPES[type(self.default)]
        if self.choices and value not in self.choices:
            return "one of " + ", ".join(self.choices)
        if self.limits is not None and not self.limits[0] <= value <= self.limits[1]:
            return f"from {self.limits[0]} to {self.limits[1]}"
        texts = value if isinstance(value, (list, tuple)) else [value] if isinstance(value, str) else []
        if sum(map(len, texts)) > MAX_CHARS:
            return f"at most {MAX_CHARS} characters long"
        return ""

    def descriptor(self) -> ParameterDescriptor:
        """The descriptor that `ros2 param describe` shows."""
        described = ParameterDescriptor(description=self.description, read_only=not self.live)
        if self.choices:
            described.additional_constraints = "one of: " + ", ".join(self.choices)
        if self.limits is None:
            return described
        least, most = self.limits
        if isinstance(self.default, int):
            described.integer_range = [IntegerRange(from_value=int(least), to_value=int(most), step=1)]
        else:
            bounds = FloatingPointRange(from_value=float(least), to_value=float(most), step=0.0)
            described.floating_point_range = [bounds]
        return described
