"""Declares the node's parameters from the parameter table, and checks their values."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from flash_vstream_ros.engine.log_text import one_line
from flash_vstream_ros.ros import Node, Parameter

from .parameter_spec import ParameterSpec
from .parameter_table import BY_NAME, PARAMETERS
from .settings import Settings, camera_names, settings_from


def declare(node: Node, warn: Callable[[str], None]) -> Settings:
    """Declare every parameter and read its value. An invalid override is reported and replaced."""
    values = {spec.name: declare_one(node, spec, warn) for spec in PARAMETERS}
    for name in _undeclared_overrides(node):
        close = difflib.get_close_matches(name, values, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        warn(f"unknown parameter {name!r} is ignored{hint}")
    consistent = _consistent(values)
    for sentence in contradictions(values):
        used = ", ".join(f"{name} {value}" for name, value in consistent.items())
        warn(f"parameter {sentence}; the node uses {used}")
    changed = {name: value for name, value in consistent.items() if value != values[name] and name != "cameras"}
    node.set_parameters([Parameter(name, value=value) for name, value in changed.items()])
    return current_settings(node)


def declare_one(node: Node, spec: ParameterSpec, warn: Callable[[str], None]) -> Any:
    """Declare a parameter, unless it is declared, and return its value. An invalid override is reported.

    If it is declared with another default and not overridden, it takes the new default.
    """
    override = _overrides(node).get(spec.name)
    if node.has_parameter(spec.name):
        value = node.get_parameter(spec.name).value
        if override is not None or value == spec.default:
            return value
        node.describe_parameter(spec.name).read_only = False
        node.undeclare_parameter(spec.name)
    problem = spec.problem(override.value) if override is not None else ""
    default = spec.fallback if problem else spec.default
    if problem:
        warn(f"parameter {problem}; the node uses {'the default, ' if default == spec.default else ''}{default!r}")
    return node.declare_parameter(spec.name, default, spec.descriptor(), ignore_override=bool(problem)).value


def current_values(node: Node) -> dict[str, Any]:
    """The present value of every parameter in the table."""
    return {name: node.get_parameter(name).value for name in BY_NAME}


def current_settings(node: Node) -> Settings:
    """The settings from the present values of all parameters."""
    return settings_from(current_values(node))


def problems(values: Mapping[str, Any], wanted: Mapping[str, Any], *, locked: bool) -> list[str]:
    """A sentence for each reason why the present `values` cannot change to `wanted`.

    `locked` is True if parameters that are not live cannot change. Parameters that are not in the table are ignored.
    """
    found, valid = [], dict(values)
    for name, value in wanted.items():
        if name not in BY_NAME:
            continue
        spec = BY_NAME[name]
        if spec.initial:
            found.append(f"{name!r} is read at start: start the node again")
        elif locked and not spec.live:
            found.append(f"{name!r} is read at start: configure the node again")
        elif problem := spec.problem(value):
            found.append(problem)
        else:
            valid[name] = value
    return found + contradictions(valid)


def contradictions(values: Mapping[str, Any]) -> list[str]:
    """A sentence for each pair of values that are valid but contradict each other."""
    found = []
    cameras = camera_names(values["cameras"])
    synopsis = values["memory.synopsis_slots"]
    if list(cameras) != list(values["cameras"]):
        given = one_line(repr(values["cameras"]))
        found.append(f"'cameras' must be different names of up to 64 letters a-z, digits and _, not {given}")
    if synopsis < len(cameras):
        found.append(f"'memory.synopsis_slots' is {synopsis}, but each of {len(cameras)} cameras needs a slot")
    for small, large in (
        ("memory.key_frame_slots", "memory.synopsis_slots"),
        ("question.deadline_s", "question.max_deadline_s"),
        ("question.max_new_tokens", "question.max_answer_tokens"),
    ):
        if values[small] > values[large]:
            found.append(f"{small!r} is {values[small]}, more than {large!r}, {values[large]}")
    return found


def _consistent(values: Mapping[str, Any]) -> dict[str, Any]:
    """Consistent values of the parameters that may contradict each other."""
    cameras = list(camera_names(values["cameras"]))
    synopsis = max(values["memory.synopsis_slots"], len(cameras))
    return {
        "cameras": cameras,
        "memory.synopsis_slots": synopsis,
        "memory.key_frame_slots": min(values["memory.key_frame_slots"], synopsis),
        "question.deadline_s": min(values["question.deadline_s"], values["question.max_deadline_s"]),
        "question.max_new_tokens": min(values["question.max_new_tokens"], values["question.max_answer_tokens"]),
    }


def _overrides(node: Node) -> Mapping[str, Parameter]:
    return getattr(node, "_parameter_overrides", {})


def _undeclared_overrides(node: Node) -> list[str]:
    """Overrides for parameters that do not exist, which ROS ignores without a message."""
    return sorted(
        name for name in _overrides(node) if not node.has_parameter(name) and not name.startswith("qos_overrides.")
    )
