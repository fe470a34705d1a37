"""The services by which `ros2 param` and other nodes access a node's parameters, and the event of a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .exceptions import ParameterNotDeclaredException
from .parameter import Parameter
from .types import message_class, service_class

if TYPE_CHECKING:
    from .node import Node


class ParameterServices:
    """The six parameter services of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        for name, kind, callback in (
            ("get_parameters", "GetParameters", self._get),
            ("get_parameter_types", "GetParameterTypes", self._get_types),
            ("set_parameters", "SetParameters", self._set),
            ("set_parameters_atomically", "SetParametersAtomically", self._set_atomically),
            ("describe_parameters", "DescribeParameters", self._describe),
            ("list_parameters", "ListParameters", self._list),
        ):
            service_type = service_class(f"rcl_interfaces/srv/{kind}")
            node.create_service(service_type, f"~/{name}", callback)

    def _value(self, name: str) -> Any:
        try:
            return self._node.get_parameter(name).get_parameter_value()
        except ParameterNotDeclaredException:
            return Parameter(name).get_parameter_value()

    def _get(self, request: Any, response: Any) -> Any:
        response.values = [self._value(name) for name in request.names]
        return response

    def _get_types(self, request: Any, response: Any) -> Any:
        response.types = [self._value(name).type for name in request.names]
        return response

    def _set(self, request: Any, response: Any) -> Any:
        response.results = [self._try([message]) for message in request.parameters]
        return response

    def _set_atomically(self, request: Any, response: Any) -> Any:
        response.result = self._try(request.parameters)
        return response

    def _try(self, messages: list[Any]) -> Any:
        try:
            return self._node.set_parameters_atomically([Parameter.from_parameter_msg(m) for m in messages])
        except (ParameterNotDeclaredException, ValueError) as error:
            result = message_class("rcl_interfaces/msg/SetParametersResult")
            return result(successful=False, reason=str(error))

    def _describe(self, request: Any, response: Any) -> Any:
        descriptor = message_class("rcl_interfaces/msg/ParameterDescriptor")
        response.descriptors = [
            self._node.describe_parameter(name) if self._node.has_parameter(name) else descriptor(name=name)
            for name in request.names
        ]
        return response

    def _list(self, request: Any, response: Any) -> Any:
        prefixes = set(request.prefixes)  # a set, since a request may have very many
        groups = set()
        for name in sorted(self._node.parameter_names):
            parts = name.split(".")
            depths = [n for n in range(len(parts) + 1) if ".".join(parts[:n]) in prefixes] if prefixes else [0]
            # The depth of a name counts from its longest requested prefix.
            if depths and (request.depth == 0 or len(parts) - max(depths) <= request.depth):
                response.result.names.append(name)
                groups.add(".".join(parts[:-1]))
        response.result.prefixes = sorted(groups - {""})
        return response


def parameter_event(node: Node, new: list[Parameter], changed: list[Parameter]) -> Any:
    """The message on /parameter_events for a change of a node's parameters."""
    return message_class("rcl_interfaces/msg/ParameterEvent")(
        stamp=node.get_clock().now().to_msg(),
        node=node.get_fully_qualified_name(),
        new_parameters=[parameter.to_parameter_msg() for parameter in new],
        changed_parameters=[parameter.to_parameter_msg() for parameter in changed],
    )
