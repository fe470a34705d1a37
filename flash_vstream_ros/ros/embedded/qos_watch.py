"""Tells which peers on a topic are not heard, or do not hear, because their QoS does not fit."""

from __future__ import annotations

import time
from dataclasses import dataclass

from . import names
from .graph import UNKNOWN_NODE, Endpoint, Graph
from .logging import RcutilsLogger
from .qos import QoSProfile, incompatibilities

NAME_PATIENCE = 1.0
"""How long the graph is given to tell the peer's node before it is reported without a name [s]."""
PEER_PATIENCE = 30.0
"""How long it is given to tell of the peer at all, which a busy machine puts off [s]."""


@dataclass
class _Suspicion:
    topic: str
    dds_topic: str
    qos: QoSProfile
    publisher: bool  # whether the local side is the publisher
    logger: RcutilsLogger
    since: float
    told: bool = False


class QosWatch:
    """Fed by DDS events on the waiting thread, which also calls `look` again and again."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._suspicions: dict[bytes, _Suspicion] = {}
        self._reported: set[tuple[bytes, bytes]] = set()

    def suspect(
        self, gid: bytes, topic: str, dds_topic: str, qos: QoSProfile, publisher: bool, logger: RcutilsLogger
    ) -> None:
        """The local endpoint `gid` has met a peer with incompatible QoS."""
        self._suspicions[gid] = _Suspicion(topic, dds_topic, qos, publisher, logger, time.monotonic())

    def look(self) -> None:
        for gid, suspicion in list(self._suspicions.items()):
            age = time.monotonic() - suspicion.since
            late = age > NAME_PATIENCE
            for peer in self._graph.endpoints("reader" if suspicion.publisher else "writer", suspicion.dds_topic):
                self._report(gid, suspicion, peer, late)
            if age > PEER_PATIENCE or (late and suspicion.told):
                del self._suspicions[gid]

    def _report(self, gid: bytes, suspicion: _Suspicion, peer: Endpoint, late: bool) -> None:
        if (gid, peer.gid) in self._reported:
            return
        offered, requested = suspicion.qos, peer.qos
        if not suspicion.publisher:
            offered, requested = requested, offered
        policies = list(incompatibilities(offered, requested))
        node = self._graph.node_of(peer.gid)
        if not policies or (node == UNKNOWN_NODE and not late):
            return
        self._reported.add((gid, peer.gid))
        suspicion.told = True
        who = "a node without a name" if node == UNKNOWN_NODE else f"node '{names.full_node_name(*node)}'"
        if suspicion.publisher:
            text = f"the subscription of {who} asks for a QoS that this publisher does not offer: it gets nothing"
        else:
            text = f"the publisher of {who} offers less QoS than this subscription asks for: nothing is received"
        suspicion.logger.warning(f"{suspicion.topic}: {text} (incompatible: {', '.join(policies)})")
