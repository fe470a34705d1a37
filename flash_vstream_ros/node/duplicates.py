"""Finds nodes that answer this node's requests too: they have the same name, or a service of the same name."""

from __future__ import annotations

import time
from collections.abc import Sequence

from flash_vstream_ros.ros import Node
from flash_vstream_ros.ros.service_peers import server_infos

SETTLE_S = 30.0  # checks continue for this long after nodes come or go, since services are discovered later
CHECK_PERIOD_S = 0.5
REMEDY = "start one of them with --ros-args -r __ns:=/NAMESPACE"


class DuplicateWatch:
    """Inspects the ROS graph when `find` is called. Not thread safe."""

    def __init__(self, node: Node, services: Sequence[str]) -> None:
        self._node = node
        self._services = services  # relative names
        self._nodes: list[tuple[str, str]] = []
        self._servers: dict[str, int] = {}  # number of servers that are known, by service
        self._next_check = self._check_until = 0.0
        self._found: list[str] = []

    def find(self) -> list[str]:
        """A sentence for each duplicate, with the remedy."""
        now = time.monotonic()
        if now < self._next_check:
            return self._found
        self._next_check = now + CHECK_PERIOD_S
        nodes = sorted(self._node.get_node_names_and_namespaces())
        servers = {service: len(server_infos(self._node, service)) for service in self._services}
        if (nodes, servers) != (self._nodes, self._servers):
            self._nodes, self._servers, self._check_until = nodes, servers, now + SETTLE_S
        if now < self._check_until:
            self._found = [*self._same_name(), *self._same_service()]
        return self._found

    def _same_name(self) -> list[str]:
        own = self._node.get_name(), self._node.get_namespace()
        if self._nodes.count(own) < 2:
            return []
        full_name = self._node.get_fully_qualified_name()
        return [f"another node is called {full_name}, so either may answer a request; {REMEDY}"]

    def _same_service(self) -> list[str]:
        own = self._node.get_name(), self._node.get_namespace()
        found = []
        for relative in self._services:
            service = self._node.resolve_service_name(relative)
            others = [
                f"{namespace.rstrip('/')}/{name}"
                for name, namespace in dict.fromkeys(self._nodes)
                if (name, namespace) != own and self._offers(name, namespace, service)
            ]
            if not others and self._servers[relative] > 1:
                others = ["a node of unknown name"]
            if others:
                found.append(
                    f"{', '.join(others)} offers {service} too, so either may answer a request; {REMEDY},"
                    f" or with -r {relative}:=OTHER_NAME"
                )
        return found

    def _offers(self, name: str, namespace: str, service: str) -> bool:
        try:
            offered = self._node.get_service_names_and_types_by_node(name, namespace)
        except Exception:  # rclpy's NodeNameNonExistentError: the node has left the graph
            return False
        return service in (each for each, _ in offered)
