"""The ROS graph: this process's nodes told to others, and theirs known here.

DDS discovery tells of every reader and writer; the topic `ros_discovery_info` tells which node has them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cyclonedds._clayer import ddspy_take_endpoint, ddspy_take_participant
from cyclonedds.builtin import (
    BuiltinDataReader,
    BuiltinTopicDcpsParticipant,
    BuiltinTopicDcpsPublication,
    BuiltinTopicDcpsSubscription,
)
from cyclonedds.core import DDSStatus, InstanceState

from . import names
from .cdr import CorruptSample, deserialize, serialize
from .peers import PeerQos, peer_qos
from .qos import DurabilityPolicy, HistoryPolicy, QoSProfile, from_peer, to_dds
from .types import idl_type, message_class, type_hash
from .wire import Reader, Wire, Writer, dispose

ENTITIES_INFO = "rmw_dds_common/msg/ParticipantEntitiesInfo"
UNKNOWN_NODE = ("_NODE_NAME_UNKNOWN_", "_NODE_NAMESPACE_UNKNOWN_")


@dataclass(frozen=True)
class Endpoint:
    """One reader or writer somewhere on the network."""

    gid: bytes
    participant: bytes
    topic: str  # DDS name
    type_name: str  # DDS name
    qos: QoSProfile
    user_data: dict[str, str]


@dataclass
class NodeEntities:
    """The readers and writers of one node."""

    name: str
    namespace: str
    readers: list[bytes] = field(default_factory=list)
    writers: list[bytes] = field(default_factory=list)


class Graph:
    def __init__(self, wire: Wire, enclave: str, on_change: Callable[[], None]) -> None:
        self._wire = wire
        self._on_change = on_change
        self._lock = threading.RLock()
        self._local: list[NodeEntities] = []
        self._remote: dict[bytes, list[NodeEntities]] = {}  # by participant
        self._enclaves: dict[bytes, str] = {wire.gid: enclave}
        self._endpoints: dict[str, dict[bytes, Endpoint]] = {"writer": {}, "reader": {}}
        message_class(ENTITIES_INFO)
        topic = wire.topic(names.GRAPH_TOPIC, idl_type(ENTITIES_INFO))
        newest = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        everything = QoSProfile(history=HistoryPolicy.KEEP_ALL, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        user_data = f"typehash={type_hash(ENTITIES_INFO)};"
        self._writer = Writer(wire, topic, to_dds(newest, user_data), lambda *_: None)
        self._reader = Reader(wire, topic, to_dds(everything, user_data), self._on_entities)
        self._builtin = [
            self._watch(BuiltinTopicDcpsParticipant, self._on_participants),
            self._watch(BuiltinTopicDcpsPublication, lambda reader: self._on_endpoints(reader, "writer")),
            self._watch(BuiltinTopicDcpsSubscription, lambda reader: self._on_endpoints(reader, "reader")),
        ]
        self._publish()

    def _watch(self, topic: Any, handler: Callable[[Any], None]) -> BuiltinDataReader:
        reader = BuiltinDataReader(self._wire.participant, topic)
        self._wire.watch(reader, DDSStatus.DataAvailable, lambda _: handler(reader))
        return reader

    def close(self) -> None:
        with self._lock:
            self._local.clear()
            self._publish()
        for reader in self._builtin:
            self._wire.unwatch(reader)
            dispose(reader)
        self._reader.close()
        self._writer.close()

    # This process tells the others:

    def add_node(self, name: str, namespace: str) -> NodeEntities:
        with self._lock:
            node = NodeEntities(name, namespace)
            self._local.append(node)
            self._publish()
        return node

    def remove_node(self, node: NodeEntities) -> None:
        with self._lock:
            self._local = [other for other in self._local if other is not node]
            self._publish()

    def change_entities(
        self,
        node: NodeEntities,
        *,
        add: Iterable[Reader | Writer] = (),
        remove: Iterable[Reader | Writer] = (),
    ) -> None:
        with self._lock:
            for entity in add:
                (node.readers if isinstance(entity, Reader) else node.writers).append(entity.gid)
            for entity in remove:
                gids = node.readers if isinstance(entity, Reader) else node.writers
                if entity.gid in gids:
                    gids.remove(entity.gid)
            self._publish()

    def _publish(self) -> None:
        if self._wire.closing:
            return
        node_class = message_class("rmw_dds_common/msg/NodeEntitiesInfo")
        message = message_class(ENTITIES_INFO)(
            gid=_gid(self._wire.gid),
            node_entities_info_seq=[
                node_class(
                    node_namespace=node.namespace,
                    node_name=node.name,
                    reader_gid_seq=[_gid(gid) for gid in node.readers],
                    writer_gid_seq=[_gid(gid) for gid in node.writers],
                )
                for node in self._local
            ],
        )
        self._writer.write(serialize(message))
        self._on_change()

    # The others tell this process, on the waiting thread:

    def _on_entities(self, reader: Reader, status: int) -> None:
        if not status & DDSStatus.DataAvailable:
            return
        while sample := reader.take():
            try:
                message: Any = deserialize(sample.raw, message_class(ENTITIES_INFO))[0]
            except CorruptSample:
                continue  # another ROS distribution: its topics still work, its node names stay unknown
            participant = message.gid.data.tobytes()[:16]
            nodes = [
                NodeEntities(
                    node.node_name,
                    node.node_namespace,
                    [gid.data.tobytes()[:16] for gid in node.reader_gid_seq],
                    [gid.data.tobytes()[:16] for gid in node.writer_gid_seq],
                )
                for node in message.node_entities_info_seq
            ]
            if participant != self._wire.gid:
                with self._lock:
                    self._remote[participant] = nodes
        self._on_change()

    def _on_participants(self, reader: BuiltinDataReader) -> None:
        taken = ddspy_take_participant(reader._ref, 1000, _participant, peer_qos)
        for gid, enclave, alive in taken if isinstance(taken, list) else ():
            with self._lock:
                if alive:
                    self._enclaves[gid] = enclave
                else:
                    self._enclaves.pop(gid, None)
                    self._remote.pop(gid, None)
        self._on_change()

    def _on_endpoints(self, reader: BuiltinDataReader, kind: str) -> None:
        taken = ddspy_take_endpoint(reader._ref, 10_000, _endpoint, peer_qos)
        for gid, endpoint in taken if isinstance(taken, list) else ():
            with self._lock:
                if endpoint is None:
                    self._endpoints[kind].pop(gid, None)
                else:
                    self._endpoints[kind][gid] = endpoint
        self._on_change()

    # Questions:

    def nodes(self) -> list[tuple[str, str, str]]:
        """-> (name, namespace, enclave) of every node, twins included."""
        with self._lock:
            everybody = [(self._wire.gid, self._local), *self._remote.items()]
            return [
                (node.name, node.namespace, self._enclaves.get(participant, "/"))
                for participant, nodes in everybody
                for node in nodes
            ]

    def endpoints(self, kind: str, topic: str | None = None) -> list[Endpoint]:
        """The "reader"s or "writer"s, of one DDS topic or of all."""
        with self._lock:
            return [e for e in self._endpoints[kind].values() if topic is None or e.topic == topic]

    def endpoints_of(self, kind: str, name: str, namespace: str) -> list[Endpoint]:
        """The "reader"s or "writer"s of one node, or of all nodes that share its name."""
        with self._lock:
            gids: set[bytes] = set()
            for node in self._everybody():
                if (node.name, node.namespace) == (name, namespace):
                    gids.update(node.readers if kind == "reader" else node.writers)
            return [endpoint for gid, endpoint in self._endpoints[kind].items() if gid in gids]

    def node_of(self, gid: bytes) -> tuple[str, str]:
        """-> (name, namespace) of the node that has an endpoint; UNKNOWN_NODE where nobody says so."""
        with self._lock:
            for node in self._everybody():
                if gid in node.readers or gid in node.writers:
                    return node.name, node.namespace
        return UNKNOWN_NODE

    def _everybody(self) -> list[NodeEntities]:
        return [*self._local, *(node for nodes in self._remote.values() for node in nodes)]


def _gid(gid: bytes) -> Any:
    gid_class = message_class("rmw_dds_common/msg/Gid")
    return gid_class(data=np.frombuffer(gid.ljust(16, b"\0"), np.uint8))


def _alive(info: Any) -> bool:
    return bool(info.valid_data and info.instance_state & InstanceState.Alive)


def _participant(key: bytes, qos: PeerQos | None, info: Any) -> tuple[bytes, str, bool]:
    enclave = qos.user_data.get("enclave", "/") if qos is not None and info.valid_data else "/"
    return bytes(key), enclave, _alive(info)


def _endpoint(
    key: bytes, participant: bytes, handle: int, topic: str, type_name: str, qos: PeerQos, info: Any, type_id: Any
) -> tuple[bytes, Endpoint | None]:
    gid = bytes(key)
    if not _alive(info):
        return gid, None
    return gid, Endpoint(gid, bytes(participant), topic, type_name, from_peer(qos), qos.user_data)
