"""Quality of service with rclpy's names, and its conversion to DDS policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclonedds.qos import Qos

    from .cyclone import Peer

WRITE_TIMEOUT_NS = 100_000_000
"""Longest time that a reliable writer waits for slow readers before it drops a sample."""


class ReliabilityPolicy(IntEnum):
    """Whether lost samples are sent again."""

    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2
    UNKNOWN = 3


class DurabilityPolicy(IntEnum):
    """Whether a subscription gets samples from before it was created."""

    SYSTEM_DEFAULT = 0
    TRANSIENT_LOCAL = 1
    VOLATILE = 2
    UNKNOWN = 3


class HistoryPolicy(IntEnum):
    """How many samples wait for a reader."""

    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2
    UNKNOWN = 3


@dataclass
class QoSProfile:
    """rclpy's QoSProfile. `history` defaults to KEEP_LAST if `depth` is given; one of the two is needed."""

    history: HistoryPolicy = HistoryPolicy.SYSTEM_DEFAULT
    depth: int = 0
    reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE
    durability: DurabilityPolicy = DurabilityPolicy.VOLATILE

    def __post_init__(self) -> None:
        self.history = HistoryPolicy(self.history)
        self.reliability = ReliabilityPolicy(self.reliability)
        self.durability = DurabilityPolicy(self.durability)
        if self.history == HistoryPolicy.SYSTEM_DEFAULT and self.depth:
            self.history = HistoryPolicy.KEEP_LAST
        if self.history == HistoryPolicy.KEEP_LAST and self.depth < 1:
            raise ValueError("A KEEP_LAST history needs a depth of at least 1")

    @property
    def reliable(self) -> bool:
        return self.reliability != ReliabilityPolicy.BEST_EFFORT

    @property
    def transient_local(self) -> bool:
        return self.durability == DurabilityPolicy.TRANSIENT_LOCAL


qos_profile_sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
SERVICE_READER = QoSProfile(history=HistoryPolicy.KEEP_ALL)
"""KEEP_ALL: all clients of a service share its history, and a burst of one must not replace requests of another.

Requests are moved at once to a bounded queue.
"""
SERVICE_WRITER = QoSProfile(depth=1000)
"""Not KEEP_ALL: Cyclone DDS would block the writer while a client that was killed acknowledges nothing."""


def as_profile(qos: QoSProfile | int) -> QoSProfile:
    """The profile; a depth stands for a reliable, volatile, keep-last profile."""
    return qos if isinstance(qos, QoSProfile) else QoSProfile(depth=max(qos, 1))


def to_dds(profile: QoSProfile, user_data: str = "") -> Qos:
    """The DDS policies of a profile, as in rmw_cyclonedds, except that a reliable writer never blocks for long."""
    from cyclonedds.qos import Policy, Qos

    history = (
        Policy.History.KeepAll
        if profile.history == HistoryPolicy.KEEP_ALL
        else Policy.History.KeepLast(max(profile.depth, 1))
    )
    policies = [
        history,
        Policy.Reliability.Reliable(WRITE_TIMEOUT_NS) if profile.reliable else Policy.Reliability.BestEffort,
        Policy.WriterDataLifecycle(autodispose=False),
        Policy.DataRepresentation(use_cdrv0_representation=True),
    ]
    if profile.transient_local:
        unlimited = -1
        policies.append(Policy.Durability.TransientLocal)
        policies.append(Policy.DurabilityService(0, history, unlimited, unlimited, unlimited))
    else:
        policies.append(Policy.Durability.Volatile)
    if user_data:
        policies.append(Policy.Userdata(user_data.encode()))
    return Qos(*policies)


def from_peer(peer: Peer) -> QoSProfile:
    """The part of a peer's profile that discovery announces."""
    profile = QoSProfile(
        reliability=ReliabilityPolicy.RELIABLE if peer.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if peer.transient_local else DurabilityPolicy.VOLATILE,
    )
    profile.history = HistoryPolicy.UNKNOWN
    return profile


def incompatibilities(offered: QoSProfile, requested: QoSProfile) -> Iterator[str]:
    """Names of the policies for which a publisher offers less than a subscription requests."""
    if requested.reliable and not offered.reliable:
        yield "RELIABILITY"
    if requested.transient_local and not offered.transient_local:
        yield "DURABILITY"
