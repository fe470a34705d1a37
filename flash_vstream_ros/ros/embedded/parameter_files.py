"""Reads ROS parameter files: YAML with values under a node name (with `*` and `**`) and `ros__parameters`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .exceptions import ROSArgumentError

KEY = "ros__parameters"


class _Loader(yaml.SafeLoader):
    """Reads YAML as rcl does: 1e3 is a number, and dates are text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


@dataclass(frozen=True)
class ParameterRule:
    """A value for a parameter of the nodes that match a pattern."""

    node: str  # full node name; * matches one part, ** any number of parts
    parameter: str
    value: Any

    def applies_to(self, full_node_name: str) -> bool:
        parts = full_node_name.strip("/").split("/")
        return _fits(self.node.strip("/").split("/"), parts)


def _fits(pattern: list[str], parts: list[str]) -> bool:
    if not pattern:
        return not parts
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        return any(_fits(rest, parts[skipped:]) for skipped in range(len(parts) + 1))
    return bool(parts) and head in ("*", parts[0]) and _fits(rest, parts[1:])


def parse_value(text: str, where: str) -> Any:
    """The value in `-p name:=value`, with its type from YAML; an empty text is an empty string."""
    return _checked(_parse(text, where), where) if text.strip() else ""


def load_parameter_file(path: str) -> list[ParameterRule]:
    """The rules of a file, in its order. Raises ROSArgumentError, which names the file and, for bad YAML, the line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ROSArgumentError(f"--params-file {path}: {error}") from error
    tree = _parse(text, f"--params-file {path}")
    if tree is None:
        return []
    if not isinstance(tree, dict):
        raise ROSArgumentError(f"--params-file {path}: expected node names at the top, found {tree!r}")
    rules: list[ParameterRule] = []
    _walk(tree, "", path, rules)
    return rules


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ROSArgumentError(f"{where}{line}: {getattr(error, 'problem', error)}") from error
    except ValueError as error:  # an integer with thousands of digits
        raise ROSArgumentError(f"{where}: {error}") from error


def _walk(tree: dict[Any, Any], node: str, path: str, rules: list[ParameterRule]) -> None:
    for key, value in tree.items():
        if key == KEY:
            if not node:
                raise ROSArgumentError(f"--params-file {path}: {KEY} must be under a node name such as /**")
            if not isinstance(value, dict):
                raise ROSArgumentError(f"--params-file {path}: {KEY} of {node} must contain names and values")
            _flatten(value, "", node, path, rules)
        elif isinstance(value, dict):
            _walk(value, f"{node}/{str(key).strip('/')}", path, rules)
        else:
            raise ROSArgumentError(
                f"--params-file {path}: {key!r} is not under {KEY}; put parameters under a node name, then {KEY}"
            )


def _flatten(tree: dict[Any, Any], prefix: str, node: str, path: str, rules: list[ParameterRule]) -> None:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            _flatten(value, f"{name}.", node, path, rules)
        else:
            rules.append(ParameterRule(node, name, _checked(value, f"--params-file {path}: {name}")))


def _checked(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, list):
        kinds = {type(item) for item in value}
        if len(kinds) <= 1 and kinds <= {bool, int, float, str}:
            return value
        raise ROSArgumentError(f"{where}: {value!r} is not a list of values of one type")
    raise ROSArgumentError(f"{where}: {value!r} cannot be the value of a parameter")
