"""Reports peers on a topic that exchange nothing with this node because their QoS is incompatible."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from . import names
from .graph import UNKNOWN_NODE, Endpoint, Graph
from .logging import RcutilsLogger
from .qos import QoSProfile, incompatibilities

NAME_TIMEOUT = 5.0
"""Longest wait for the announcement of the peer's node before the peer is reported without a name [s]."""
PEER_TIMEOUT = 30.0
"""Longest wait for the peer's endpoint to be discovered, which takes long on a busy machine [s]."""


@dataclass
class _LocalEndpoint:
    """An endpoint of this process that has met an incompatible peer."""

    topic: str
    qos: QoSProfile
    is_publisher: bool
    logger: RcutilsLogger
    since: float = 0.0  # time of the last event about an incompatible peer
    pending: bool = False
    has_reported: bool = False  # True: a peer was reported since that event
    reported: set[bytes] = field(default_factory=set)  # GIDs of reported peers


class QosWatch:
    """Reports peers with incompatible QoS. The DDS thread passes events to it, and calls `report_pending` regularly."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._local: dict[bytes, _LocalEndpoint] = {}

    def suspect(self, gid: bytes, topic: str, qos: QoSProfile, is_publisher: bool, logger: RcutilsLogger) -> None:
        """Note that the local endpoint `gid` has discovered a peer with incompatible QoS."""
        local = self._local.setdefault(gid, _LocalEndpoint(topic, qos, is_publisher, logger))
        local.since, local.pending, local.has_reported = time.monotonic(), True, False

    def forget(self, gid: bytes) -> None:
        """Note that the local endpoint `gid` was destroyed."""
        self._local.pop(gid, None)

    def report_pending(self) -> None:
        for local in list(self._local.values()):
            if not local.pending:
                continue
            age = time.monotonic() - local.since
            peers = self._graph.endpoints("reader" if local.is_publisher else "writer", names.topic_to_dds(local.topic))
            local.reported &= {peer.gid for peer in peers}  # drops peers that have gone
            for peer in peers:
                self._report(local, peer, age > NAME_TIMEOUT)
            local.pending = age < PEER_TIMEOUT and not (age > NAME_TIMEOUT and local.has_reported)

    def _report(self, local: _LocalEndpoint, peer: Endpoint, nameless: bool) -> None:
        """Report a peer once. `nameless`: report it even if its node is unknown."""
        if peer.gid in local.reported:
            return
        offered, requested = (local.qos, peer.qos) if local.is_publisher else (peer.qos, local.qos)
        policies = list(incompatibilities(offered, requested))
        node = self._graph.node_of(peer.gid)
        if not policies or (node == UNKNOWN_NODE and not nameless):
            return
        local.reported.add(peer.gid)
        local.has_reported = True
        who = "a node without a name" if node == UNKNOWN_NODE else f"node '{names.full_node_name(*node)}'"
        if local.is_publisher:
            text = f"the subscription of {who} requests a QoS that this publisher does not offer, and receives nothing"
        else:
            text = f"the publisher of {who} does not offer the QoS that this subscription requests: nothing is received"
        local.logger.warning(f"{local.topic}: {text}; change {' and '.join(policies)} on one side")
