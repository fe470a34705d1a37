"""Parses `--ros-args`: parameters, remaps, parameter files and log levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import names
from .exceptions import ROSArgumentError
from .logging import LoggingSeverity, severity
from .parameter_files import ParameterRule, load_parameter_file, parse_value

OPTIONS = ("-p", "--param", "-r", "--remap", "--params-file", "--log-level", "--log-config-file", "--log-file-name")


@dataclass(frozen=True)
class RemapRule:
    """Replaces the name `source` of a topic, a service or a node by `target`."""

    node: str | None  # name of the node that the rule is for; None: all nodes
    source: str
    target: str


@dataclass
class Arguments:
    """The ROS arguments of a process, and its other arguments."""

    parameter_rules: list[ParameterRule] = field(default_factory=list)
    remap_rules: list[RemapRule] = field(default_factory=list)
    log_levels: list[tuple[str, LoggingSeverity]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # arguments that are not for ROS

    @classmethod
    def parse(cls, args: Sequence[str]) -> Arguments:
        """Parse every `--ros-args ... [--]` section. Raises ROSArgumentError, which names the argument or line."""
        parsed = cls()
        queue = list(args)
        inside = False
        while queue:
            argument = queue.pop(0)
            if argument == "--ros-args":
                inside = True
            elif not inside:
                parsed.others.append(argument)
            elif argument == "--":
                inside = False
            else:
                parsed._accept(argument, queue)
        return parsed

    def _accept(self, argument: str, queue: list[str]) -> None:
        if argument.startswith(("--enable-", "--disable-")) and argument.endswith("-logs"):
            return  # rcl's switches for log outputs; this runtime always has the console and /rosout
        option, equals, value = argument.partition(":=")
        if equals:  # from:=to without -r, as in ROS 1
            self.remap_rules.append(_remap(argument))
            return
        if option in ("-e", "--enclave"):
            raise ROSArgumentError(f"{option}: the embedded runtime has no security (SROS 2); use rclpy for enclaves")
        if option not in OPTIONS:
            raise ROSArgumentError(
                f"Unknown ROS argument {argument!r}: expected -p, -r, --params-file, --log-level, or -- before "
                "arguments that are not for ROS"
            )
        if not queue:
            raise ROSArgumentError(f"{argument} is the last argument, but it needs a value")
        value = queue.pop(0)
        if option in ("-p", "--param"):
            self.parameter_rules.append(_parameter(value))
        elif option in ("-r", "--remap"):
            self.remap_rules.append(_remap(value))
        elif option == "--params-file":
            self.parameter_rules.extend(load_parameter_file(value))
        elif option == "--log-level":
            self.log_levels.append(_log_level(value))

    def node_name(self, name: str) -> str:
        """The name of the node `name` after remapping."""
        return self._special(("__node", "__name"), name) or name

    def node_namespace(self, name: str, namespace: str) -> str:
        """The namespace of the node `name` after remapping."""
        return self._special(("__ns",), name) or namespace

    def _special(self, sources: tuple[str, ...], name: str) -> str | None:
        for rule in self.remap_rules:
            if rule.source in sources and rule.node in (None, name):
                return rule.target
        return None

    def remap(self, full_name: str, name: str, namespace: str, original_name: str, *, service: bool) -> str:
        """The name that replaces the `full_name` of a node's topic or service. The first matching rule wins."""
        for rule in self.remap_rules:
            if rule.source.startswith("__") or rule.node not in (None, name, original_name):
                continue
            if names.expand(rule.source, name, namespace, service=service) == full_name:
                return names.expand(rule.target, name, namespace, service=service)
        return full_name

    def parameter_overrides(self, full_node_name: str) -> dict[str, Any]:
        """Parameter values for one node; later rules replace earlier ones."""
        return {rule.parameter: rule.value for rule in self.parameter_rules if rule.applies_to(full_node_name)}


def _parameter(text: str) -> ParameterRule:
    name, assign, value = text.partition(":=")
    node, colon, parameter = name.rpartition(":")
    if not assign or not parameter:
        raise ROSArgumentError(f"-p {text}: expected name:=value")
    pattern = "/**"
    if colon:
        pattern = node if node.startswith("/") else f"/**/{node}"
    return ParameterRule(pattern, parameter, parse_value(value, f"-p {text}"))


def _remap(text: str) -> RemapRule:
    left, assign, target = text.partition(":=")
    node, _, source = left.rpartition(":")
    rule = RemapRule(node or None, source, target)
    if not assign or not source or not target:
        raise ROSArgumentError(f"-r {text}: expected from:=to or node:from:=to")
    try:
        if source in ("__node", "__name"):
            names.validate_node_name(target)
        elif source == "__ns":
            if not target.startswith("/"):
                raise ROSArgumentError(f"-r {text}: a namespace starts with '/'")
            names.validate_namespace(target)
        else:
            names.expand(source, "node", "/")
            names.expand(target, "node", "/")
    except ROSArgumentError:
        raise
    except ValueError as error:
        raise ROSArgumentError(f"-r {text}: {error}") from error
    return rule


def _log_level(text: str) -> tuple[str, LoggingSeverity]:
    name, _, level = text.rpartition(":=")
    try:
        return name, severity(level)
    except ValueError as error:
        raise ROSArgumentError(f"--log-level {text}: {error}") from error
