"""The ROS graph: announces the nodes of this process to others, and tracks the nodes of others.

DDS discovery announces every reader and writer; the topic `ros_discovery_info` announces the node of each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cyclonedds.builtin import (
    BuiltinDataReader,
    BuiltinTopicDcpsParticipant,
    BuiltinTopicDcpsPublication,
    BuiltinTopicDcpsSubscription,
)
from cyclonedds.core import DDSStatus

from . import cyclone, names
from .cdr import CorruptSample, deserialize, serialize
from .cyclone import Sample
from .dds import Participant, Reader, Writer
from .logging import get_logger
from .qos import DurabilityPolicy, HistoryPolicy, QoSProfile, from_peer, to_dds
from .types import idl_type, message_class, type_hash

ENTITIES_INFO = "rmw_dds_common/msg/ParticipantEntitiesInfo"
UNKNOWN_NODE = ("_NODE_NAME_UNKNOWN_", "_NODE_NAMESPACE_UNKNOWN_")
LARGEST_ANNOUNCEMENT = 1 << 20
"""Larger announcements are dropped [bytes]; a participant with 1,000 endpoints needs 24 kB."""


@dataclass(frozen=True)
class Endpoint:
    """One reader or writer on the network."""

    gid: bytes
    topic: str  # DDS name
    type_name: str  # DDS name
    qos: QoSProfile
    type_hash: str


@dataclass
class NodeEntities:
    """The readers and writers of one node."""

    name: str
    namespace: str
    readers: set[bytes] = field(default_factory=set)
    writers: set[bytes] = field(default_factory=set)


class Graph:
    """The nodes and endpoints of all processes. Any thread may query it; `on_change` is called after every change."""

    def __init__(self, participant: Participant, on_change: Callable[[], None]) -> None:
        self._participant = participant
        self._on_change = on_change
        self._lock = threading.RLock()
        self._local: list[NodeEntities] = []
        self._remote: dict[bytes, list[NodeEntities]] = {}  # by participant
        self._endpoints: dict[str, dict[bytes, Endpoint]] = {"writer": {}, "reader": {}}
        self.announcements_dropped = 0
        self._logger = get_logger("graph")
        message_class(ENTITIES_INFO)
        topic = participant.topic(names.GRAPH_TOPIC, idl_type(ENTITIES_INFO))
        newest = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        everything = QoSProfile(history=HistoryPolicy.KEEP_ALL, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        user_data = f"typehash={type_hash(ENTITIES_INFO)};"
        self._writer = Writer(participant, topic, to_dds(newest, user_data), lambda *_: None)
        self._reader = Reader(participant, topic, to_dds(everything, user_data), self._on_announcements)
        self._builtin = [
            self._watch(BuiltinTopicDcpsParticipant, self._on_participants),
            self._watch(BuiltinTopicDcpsPublication, lambda reader: self._on_endpoints(reader, "writer")),
            self._watch(BuiltinTopicDcpsSubscription, lambda reader: self._on_endpoints(reader, "reader")),
        ]
        self._publish()

    def _watch(self, topic: Any, handler: Callable[[Any], None]) -> BuiltinDataReader:
        reader = BuiltinDataReader(self._participant.entity, topic)
        self._participant.watch(reader, DDSStatus.DataAvailable, lambda _: handler(reader))
        return reader

    def close(self) -> None:
        with self._lock:
            self._local.clear()
            self._publish()
        for reader in self._builtin:
            self._participant.unwatch(reader)
            cyclone.dispose(reader)
        self._reader.close()
        self._writer.close()

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
        self, node: NodeEntities, *, add: Iterable[Reader | Writer] = (), remove: Iterable[Reader | Writer] = ()
    ) -> None:
        with self._lock:
            for entity in add:
                (node.readers if isinstance(entity, Reader) else node.writers).add(entity.gid)
            for entity in remove:
                (node.readers if isinstance(entity, Reader) else node.writers).discard(entity.gid)
            self._publish()

    def _publish(self) -> None:
        if self._participant.closing:
            return
        node_class = message_class("rmw_dds_common/msg/NodeEntitiesInfo")
        message = message_class(ENTITIES_INFO)(
            gid=_gid(self._participant.gid),
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

    def _on_announcements(self, reader: Reader, status: int) -> None:
        if not status & DDSStatus.DataAvailable:
            return
        while sample := reader.take():
            if problem := self._read_announcement(reader, sample):
                self.announcements_dropped += 1
                self._logger.warning(
                    f"{self.announcements_dropped} announcements of nodes dropped, the last because {problem}: the "
                    "names of that participant's nodes stay unknown, but its topics are received",
                    throttle_duration_sec=60.0,
                )
        self._on_change()

    def _read_announcement(self, reader: Reader, sample: Sample) -> str:
        """Returns why an announcement is dropped; "" if it is kept."""
        writer = cyclone.matched_writer(reader.entity, sample.publication_handle)
        if writer is None or writer.participant == self._participant.gid:
            return ""  # the participant has gone, or is this process
        if len(sample.raw) > LARGEST_ANNOUNCEMENT:
            return f"it has {len(sample.raw)} bytes, more than {LARGEST_ANNOUNCEMENT}"
        try:
            message: Any = deserialize(sample.raw, message_class(ENTITIES_INFO))[0]
        except CorruptSample as error:  # another ROS distribution
            return str(error)
        # Only a participant's own nodes are accepted, so that they are removed when discovery reports that it has gone.
        if message.gid.data.tobytes()[:16] != writer.participant:
            return f"participant {writer.participant.hex()} announced nodes of another one"
        nodes = [
            NodeEntities(
                node.node_name,
                node.node_namespace,
                {gid.data.tobytes()[:16] for gid in node.reader_gid_seq},
                {gid.data.tobytes()[:16] for gid in node.writer_gid_seq},
            )
            for node in message.node_entities_info_seq
        ]
        with self._lock:
            self._remote[writer.participant] = nodes
        return ""

    def _on_participants(self, reader: BuiltinDataReader) -> None:
        for gid, alive in cyclone.take_participants(reader):
            if not alive:
                with self._lock:
                    self._remote.pop(gid, None)
        self._on_change()

    def _on_endpoints(self, reader: BuiltinDataReader, kind: str) -> None:
        for found in cyclone.take_endpoints(reader):
            with self._lock:
                if found.peer is None:
                    self._endpoints[kind].pop(found.gid, None)
                else:
                    hash_ = found.peer.user_data.get("typehash", "")
                    endpoint = Endpoint(found.gid, found.topic, found.type_name, from_peer(found.peer), hash_)
                    self._endpoints[kind][found.gid] = endpoint
        self._on_change()

    def nodes(self) -> list[tuple[str, str]]:
        """Returns (name, namespace) of every node; names may occur more than once."""
        with self._lock:
            return [(node.name, node.namespace) for node in self._all_nodes()]

    def endpoints(self, kind: str, topic: str) -> list[Endpoint]:
        """The endpoints of one `kind` ("reader" or "writer") of a DDS topic."""
        with self._lock:
            return [endpoint for endpoint in self._endpoints[kind].values() if endpoint.topic == topic]

    def endpoints_of(self, kind: str, name: str, namespace: str) -> list[Endpoint]:
        """The endpoints of one `kind` ("reader" or "writer") of all nodes with this name."""
        with self._lock:
            gids: set[bytes] = set()
            for node in self._all_nodes():
                if (node.name, node.namespace) == (name, namespace):
                    gids.update(node.readers if kind == "reader" else node.writers)
            return [endpoint for gid, endpoint in self._endpoints[kind].items() if gid in gids]

    def node_of(self, gid: bytes) -> tuple[str, str]:
        """Returns (name, namespace) of an endpoint's node; UNKNOWN_NODE if no node announced it."""
        with self._lock:
            for node in self._all_nodes():
                if gid in node.readers or gid in node.writers:
                    return node.name, node.namespace
        return UNKNOWN_NODE

    def _all_nodes(self) -> list[NodeEntities]:
        return [*self._local, *(node for nodes in self._remote.values() for node in nodes)]


def _gid(gid: bytes) -> Any:
    gid_class = message_class("rmw_dds_common/msg/Gid")
    return gid_class(data=np.frombuffer(gid.ljust(16, b"\0"), np.uint8))
