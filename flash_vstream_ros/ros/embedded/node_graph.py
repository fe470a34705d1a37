"""Graph queries of a node, as in rclpy.node.Node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from . import names
from .context import Context
from .graph import Endpoint
from .qos import QoSProfile

NamesAndTypes = list[tuple[str, list[str]]]


@dataclass(frozen=True)
class TopicEndpointInfo:
    """A publisher or subscription of a topic, as rclpy.topic_endpoint_info."""

    node_name: str
    node_namespace: str
    topic_type: str
    topic_type_hash: str
    endpoint_gid: list[int]
    qos_profile: QoSProfile


class NodeGraph:
    """The methods of a node that list other nodes and their endpoints."""

    context: Context

    def resolve_topic_name(self, topic: str) -> str:
        raise NotImplementedError

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        return self.context.graph.nodes()

    def count_publishers(self, topic_name: str) -> int:
        return len(self.get_publishers_info_by_topic(topic_name))

    def get_publishers_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[TopicEndpointInfo]:
        dds_name = topic_name if no_mangle else names.topic_to_dds(self.resolve_topic_name(topic_name))
        return [
            TopicEndpointInfo(
                *self.context.graph.node_of(endpoint.gid),
                topic_type=names.type_from_dds(endpoint.type_name),
                topic_type_hash=endpoint.type_hash,
                endpoint_gid=list(endpoint.gid),
                qos_profile=endpoint.qos,
            )
            for endpoint in self.context.graph.endpoints("writer", dds_name)
        ]

    def get_publisher_names_and_types_by_node(self, node_name: str, node_namespace: str) -> NamesAndTypes:
        return _grouped(self.context.graph.endpoints_of("writer", node_name, node_namespace), names.topic_from_dds)

    def get_subscriber_names_and_types_by_node(self, node_name: str, node_namespace: str) -> NamesAndTypes:
        return _grouped(self.context.graph.endpoints_of("reader", node_name, node_namespace), names.topic_from_dds)

    def get_service_names_and_types_by_node(self, node_name: str, node_namespace: str) -> NamesAndTypes:
        return _grouped(self.context.graph.endpoints_of("reader", node_name, node_namespace), names.service_from_dds)


def _grouped(endpoints: Iterable[Endpoint], ros_name: Callable[[str], str | None]) -> NamesAndTypes:
    found: dict[str, set[str]] = {}
    for endpoint in endpoints:
        if (name := ros_name(endpoint.topic)) is not None:
            found.setdefault(name, set()).add(names.type_from_dds(endpoint.type_name))
    return [(name, sorted(types)) for name, types in sorted(found.items())]
