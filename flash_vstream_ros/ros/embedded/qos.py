"""Quality of service under rclpy's names, and its translation to DDS policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING

from .duration import Duration

if TYPE_CHECKING:
    from cyclonedds.qos import Qos

    from .peers import PeerQos

WRITE_PATIENCE_NS = 100_000_000
"""How long a reliable writer waits for slow readers before a sample is given up."""

SERVICE_DEPTH = 100
"""Requests or replies kept for whoever has not taken them yet, at least."""


class ReliabilityPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


class DurabilityPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    TRANSIENT_LOCAL = 1
    VOLATILE = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


class HistoryPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2
    UNKNOWN = 3


class LivelinessPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    AUTOMATIC = 1
    MANUAL_BY_TOPIC = 3
    UNKNOWN = 4
    BEST_AVAILABLE = 5


QoSReliabilityPolicy = ReliabilityPolicy
QoSDurabilityPolicy = DurabilityPolicy
QoSHistoryPolicy = HistoryPolicy
QoSLivelinessPolicy = LivelinessPolicy


class InvalidQoSProfileException(Exception):
    """A QoS profile contradicts itself."""


@dataclass
class QoSProfile:
    """rclpy's QoSProfile. `history` defaults to KEEP_LAST where `depth` is given; one of the two is needed."""

    history: HistoryPolicy = HistoryPolicy.SYSTEM_DEFAULT
    depth: int = 0
    reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE
    durability: DurabilityPolicy = DurabilityPolicy.VOLATILE
    lifespan: Duration = field(default_factory=Duration)
    deadline: Duration = field(default_factory=Duration)
    liveliness: LivelinessPolicy = LivelinessPolicy.SYSTEM_DEFAULT
    liveliness_lease_duration: Duration = field(default_factory=Duration)
    avoid_ros_namespace_conventions: bool = False

    def __post_init__(self) -> None:
        self.history = HistoryPolicy(self.history)
        self.reliability = ReliabilityPolicy(self.reliability)
        self.durability = DurabilityPolicy(self.durability)
        if self.history == HistoryPolicy.SYSTEM_DEFAULT and self.depth:
            self.history = HistoryPolicy.KEEP_LAST
        if self.history == HistoryPolicy.KEEP_LAST and self.depth < 1:
            raise InvalidQoSProfileException("A KEEP_LAST history needs a depth of at least 1")

    @property
    def reliable(self) -> bool:
        return self.reliability != ReliabilityPolicy.BEST_EFFORT

    @property
    def transient_local(self) -> bool:
        return self.durability == DurabilityPolicy.TRANSIENT_LOCAL


qos_profile_system_default = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10)
qos_profile_sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
qos_profile_services_default = QoSProfile(depth=10)
qos_profile_parameters = QoSProfile(depth=1000)
qos_profile_parameter_events = QoSProfile(depth=1000)
qos_profile_rosout = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def as_profile(qos: QoSProfile | int) -> QoSProfile:
    """A depth alone means a reliable, volatile, keep-last profile."""
    if isinstance(qos, QoSProfile):
        return qos
    if isinstance(qos, int) and not isinstance(qos, bool) and qos >= 0:
        return QoSProfile(depth=max(qos, 1))
    raise TypeError(f"Expected a QoSProfile or a depth (int >= 0), got {qos!r}")


def for_service(profile: QoSProfile) -> QoSProfile:
    """The profile with room for the traffic of other clients.

    All clients of a service share one history each way. A reply that a new client has to ask for again, because it
    came before the writer's first heartbeat, was overwritten by ten quick replies to another client.
    """
    return replace(profile, depth=max(profile.depth, SERVICE_DEPTH))


def to_dds(profile: QoSProfile, user_data: str = "") -> Qos:
    """The DDS policies that rmw_cyclonedds uses for a profile, except that a reliable writer is never stuck."""
    from cyclonedds.qos import Policy, Qos
    from cyclonedds.util import duration

    history = (
        Policy.History.KeepAll
        if profile.history == HistoryPolicy.KEEP_ALL
        else Policy.History.KeepLast(max(profile.depth, 1))
    )
    policies = [
        history,
        Policy.Reliability.Reliable(WRITE_PATIENCE_NS) if profile.reliable else Policy.Reliability.BestEffort,
        Policy.WriterDataLifecycle(autodispose=False),
        Policy.DataRepresentation(use_cdrv0_representation=True),
    ]
    if profile.transient_local:
        unlimited = -1
        policies.append(Policy.Durability.TransientLocal)
        policies.append(Policy.DurabilityService(0, history, unlimited, unlimited, unlimited))
    else:
        policies.append(Policy.Durability.Volatile)
    if profile.lifespan.nanoseconds:
        policies.append(Policy.Lifespan(profile.lifespan.nanoseconds))
    if profile.deadline.nanoseconds:
        policies.append(Policy.Deadline(profile.deadline.nanoseconds))
    lease = profile.liveliness_lease_duration.nanoseconds or duration(infinite=True)
    manual = profile.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC
    policies.append(Policy.Liveliness.ManualByTopic(lease) if manual else Policy.Liveliness.Automatic(lease))
    if user_data:
        policies.append(Policy.Userdata(user_data.encode()))
    return Qos(*policies)


def from_peer(qos: PeerQos) -> QoSProfile:
    """What discovery tells of a peer's profile."""
    profile = QoSProfile(
        reliability=ReliabilityPolicy.RELIABLE if qos.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if qos.transient_local else DurabilityPolicy.VOLATILE,
    )
    profile.history = HistoryPolicy.UNKNOWN
    return profile


def incompatibilities(offered: QoSProfile, requested: QoSProfile) -> Iterator[str]:
    """The policies in which a publisher offers less than a subscription asks for."""
    if requested.reliable and not offered.reliable:
        yield "RELIABILITY"
    if requested.transient_local and not offered.transient_local:
        yield "DURABILITY"
