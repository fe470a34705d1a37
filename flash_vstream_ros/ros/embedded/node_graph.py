"""The methods of a node that ask who else is there, as in rclpy.node.Node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from . import names
from .context import Context
from .graph import Endpoint
from .qos import QoSProfile


class TopicEndpointTypeEnum(IntEnum):
    INVALID = 0
    PUBLISHER = 1
    SUBSCRIPTION = 2


@dataclass(frozen=True)
class TopicEndpointInfo:
    node_name: str
    node_namespace: str
    topic_type: str
    topic_type_hash: str
    endpoint_type: TopicEndpointTypeEnum
    endpoint_gid: list[int]
    qos_profile: QoSProfile


NamesAndTypes = list[tuple[str, list[str]]]


class NodeGraph:
    _context: Context

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        raise NotImplementedError

    def resolve_service_name(self, service: str, *, only_expand: bool = False) -> str:
        raise NotImplementedError

    def get_node_names(self) -> list[str]:
        return [name for name, _, _ in self._context.graph.nodes()]

    def get_fully_qualified_node_names(self) -> list[str]:
        return [names.full_node_name(name, namespace) for name, namespace, _ in self._context.graph.nodes()]

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        return [(name, namespace) for name, namespace, _ in self._context.graph.nodes()]

    def get_node_names_and_namespaces_with_enclaves(self) -> list[tuple[str, str, str]]:
        return self._context.graph.nodes()

    def count_publishers(self, topic_name: str) -> int:
        return len(self._endpoints("writer", topic_name))

    def count_subscribers(self, topic_name: str) -> int:
        return len(self._endpoints("reader", topic_name))

    def get_publishers_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[TopicEndpointInfo]:
        return self._infos("writer", topic_name, no_mangle)

    def get_subscriptions_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[TopicEndpointInfo]:
        return self._infos("reader", topic_name, no_mangle)

    def get_topic_names_and_types(self) -> NamesAndTypes:
        return _topics([*self._context.graph.endpoints("writer"), *self._context.graph.endpoints("reader")])

    def get_service_names_and_types(self) -> NamesAndTypes:
        return _services(self._context.graph.endpoints("reader"))

    def get_publisher_names_and_types_by_node(self, node_name: str, node_namespace: str) -> NamesAndTypes:
        return _topics(self._context.graph.endpoints_of("writer", node_name, node_namespace))

    def get_subscriber_names_and_types_by_node(self, node_name: str, node_namespace: str) -> NamesAndTypes:
        return _topics(self._context.graph.endpoints_of("reader", node_name, node_namespace))

    def get_service_names_and_types_by_node(self, node_name: str, node_namespace: str) -> NamesAndTypes:
        return _services(self._context.graph.endpoints_of("reader", node_name, node_namespace))

    def get_client_names_and_types_by_node(self, node_name: str, node_namespace: str) -> NamesAndTypes:
        return _services(self._context.graph.endpoints_of("writer", node_name, node_namespace))

    def _endpoints(self, kind: str, topic: str, no_mangle: bool = False) -> list[Endpoint]:
        dds = topic if no_mangle else names.topic_to_dds(self.resolve_topic_name(topic))
        return self._context.graph.endpoints(kind, dds)

    def _infos(self, kind: str, topic: str, no_mangle: bool) -> list[TopicEndpointInfo]:
        found = []
        for endpoint in self._endpoints(kind, topic, no_mangle):
            name, namespace = self._context.graph.node_of(endpoint.gid)
            found.append(
                TopicEndpointInfo(
                    node_name=name,
                    node_namespace=namespace,
                    topic_type=names.type_from_dds(endpoint.type_name),
                    topic_type_hash=endpoint.user_data.get("typehash", ""),
                    endpoint_type=TopicEndpointTypeEnum.PUBLISHER
                    if kind == "writer"
                    else TopicEndpointTypeEnum.SUBSCRIPTION,
                    endpoint_gid=list(endpoint.gid),
                    qos_profile=endpoint.qos,
                )
            )
        return found


def _topics(endpoints: Iterable[Endpoint]) -> NamesAndTypes:
    return _grouped((names.topic_from_dds(endpoint.topic), endpoint.type_name) for endpoint in endpoints)


def _services(endpoints: Iterable[Endpoint]) -> NamesAndTypes:
    return _grouped((names.service_from_dds(endpoint.topic), endpoint.type_name) for endpoint in endpoints)


def _grouped(pairs: Iterable[tuple[str | None, str]]) -> NamesAndTypes:
    found: dict[str, set[str]] = {}
    for name, type_name in pairs:
        if name is not None:
            found.setdefault(name, set()).add(names.type_from_dds(type_name))
    return [(name, sorted(types)) for name, types in sorted(found.items())]
