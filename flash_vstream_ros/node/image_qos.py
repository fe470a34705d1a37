"""QoS that a camera's subscription requests, and the publishers that are incompatible with it.

"auto" follows the rule of ROS 2's best_available policies, and applies it again whenever the publishers change. A
reliable subscription receives nothing from a best-effort publisher; a best-effort one receives from all, but may lose
images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flash_vstream_ros.node.parameter_spec import ParameterSpec
from flash_vstream_ros.node.parameters import declare_one
from flash_vstream_ros.ros import DurabilityPolicy, HistoryPolicy, Node, QoSProfile, ReliabilityPolicy

RELIABILITIES = ("auto", "best_effort", "reliable")
SENSOR_DATA_DEPTH = 5
UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"  # ROS 2's node name for a publisher whose node is not discovered yet


def override_specs(topic: str, reliability: str) -> tuple[ParameterSpec, ...]:
    """The parameters by which ROS 2 overrides the QoS of the subscription to `topic`, a full topic name."""
    prefix = f"qos_overrides.{topic}.subscription"
    return (
        ParameterSpec(f"{prefix}.reliability", reliability, f"Requested reliability on {topic}", choices=RELIABILITIES),
        ParameterSpec(
            f"{prefix}.durability",
            "volatile",
            f"Requested durability on {topic}",
            choices=("volatile", "transient_local"),
        ),
        ParameterSpec(f"{prefix}.history", "keep_last", f"History of {topic}", choices=("keep_last", "keep_all")),
        ParameterSpec(f"{prefix}.depth", SENSOR_DATA_DEPTH, f"Images of {topic} that may wait [images]", (1, 1000)),
    )


@dataclass(frozen=True)
class ImageQoS:
    """The QoS policies requested on one topic, spelled as in the parameters."""

    reliability: str
    durability: str
    history: str
    depth: int

    @classmethod
    def declared(cls, node: Node, topic: str, reliability: str, warn: Callable[[str], None]) -> ImageQoS:
        """Sensor-data QoS with `reliability` and the overrides for `topic`. Reports an invalid override to `warn`."""
        specs = override_specs(topic, reliability)
        return cls(*(declare_one(node, spec, warn) for spec in specs))

    def profile(self, publishers: Sequence[Any], before: QoSProfile | None = None) -> QoSProfile:
        """The profile to request from `publishers` (TopicEndpointInfo); `before` is the one requested so far."""
        return QoSProfile(
            history=HistoryPolicy[self.history.upper()],
            depth=self.depth,
            reliability=self._reliability(publishers, before),
            durability=DurabilityPolicy[self.durability.upper()],
        )

    def _reliability(self, publishers: Sequence[Any], before: QoSProfile | None) -> ReliabilityPolicy:
        if self.reliability != "auto":
            return ReliabilityPolicy[self.reliability.upper()]
        if not publishers and before is not None:
            return before.reliability  # a camera that restarts most likely offers the same
        reliable = all(publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE for publisher in publishers)
        return ReliabilityPolicy.RELIABLE if publishers and reliable else ReliabilityPolicy.BEST_EFFORT


def unused_overrides(node: Node) -> list[str]:
    """Names of QoS overrides without effect: no camera subscribes to their topic, or their policy does not exist."""
    names = getattr(node, "_parameter_overrides", {})
    of_subscriptions = [name for name in names if name.startswith("qos_overrides.") and ".subscription." in name]
    return sorted(name for name in of_subscriptions if not node.has_parameter(name))


def incompatible(publishers: Sequence[Any], topic: str, type_name: str, requested: QoSProfile) -> tuple[str, ...]:
    """A sentence for each publisher of `topic` whose images are not received: its node, the topic and the reason."""
    found = []
    for publisher in publishers:
        mismatches = _mismatches(publisher, type_name, requested)
        if mismatches:
            found.append(f"{node_of(publisher)} on {topic} is not received: {'; '.join(mismatches)}")
    return tuple(sorted(found))


def compatible(publishers: Sequence[Any], type_name: str, requested: QoSProfile) -> list[Any]:
    """The publishers whose images the subscription receives."""
    return [publisher for publisher in publishers if not _mismatches(publisher, type_name, requested)]


def node_of(publisher: Any) -> str:
    """The full name of a publisher's node."""
    if publisher.node_name == UNKNOWN_NODE:
        return "a publisher of an unknown node"
    return f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"


def _mismatches(publisher: Any, type_name: str, requested: QoSProfile) -> list[str]:
    if publisher.topic_type != type_name:
        return [f"TYPE: it publishes {publisher.topic_type}, not {type_name}"]
    offered = publisher.qos_profile
    mismatches = []
    if requested.reliability == ReliabilityPolicy.RELIABLE and offered.reliability == ReliabilityPolicy.BEST_EFFORT:
        mismatches.append("RELIABILITY: it offers best effort, but reliable is requested")
    if requested.durability == DurabilityPolicy.TRANSIENT_LOCAL and offered.durability == DurabilityPolicy.VOLATILE:
        mismatches.append("DURABILITY: it offers volatile, but transient local is requested")
    return mismatches
