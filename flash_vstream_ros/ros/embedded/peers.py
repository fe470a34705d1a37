"""What discovery tells of an endpoint elsewhere, read from C with nothing that threads share.

The conversion that comes with cyclonedds lets C write into attributes of a class: of two threads that look at once one
gets the other's values, or follows a null pointer, which ends the process.
"""

from __future__ import annotations

import ctypes as ct
from dataclasses import dataclass
from typing import Any

from cyclonedds._clayer import ddspy_get_matched_publication_data, ddspy_get_matched_subscription_data
from cyclonedds.core import Entity
from cyclonedds.internal import dds_c_t
from cyclonedds.qos import _CQos

BEST_EFFORT, TRANSIENT_LOCAL = 0, 1  # C's dds_reliability_kind and dds_durability_kind


@dataclass(frozen=True)
class PeerQos:
    """As much of an endpoint's policies as ROS asks for; DDS does not announce the history."""

    reliable: bool
    transient_local: bool
    user_data: dict[str, str]


def peer_qos(pointer: int) -> PeerQos:
    """The policies behind a pointer to C's dds_qos_t."""
    qos = ct.cast(pointer, dds_c_t.qos_p)
    reliability, blocking, durability = dds_c_t.reliability(), dds_c_t.duration(), dds_c_t.durability()
    told = bool(_CQos._get_reliability(qos, ct.byref(reliability), ct.byref(blocking)))
    latched = bool(_CQos._get_durability(qos, ct.byref(durability)))
    return PeerQos(
        reliable=told and reliability.value != BEST_EFFORT,
        transient_local=latched and durability.value == TRANSIENT_LOCAL,
        user_data=parse_user_data(_user_data(qos)),
    )


def parse_user_data(data: bytes) -> dict[str, str]:
    """The `key=value;` pairs that ROS puts into the user data of participants and endpoints."""
    return dict(part.split("=", 1) for part in data.decode(errors="replace").split(";") if "=" in part)


def matched_writer(reader: Entity, handle: int) -> PeerQos | None:
    """The writer that `reader` knows by an instance handle, None where it knows it no more."""
    found: PeerQos | None = ddspy_get_matched_publication_data(reader._ref, handle, _qos_of, peer_qos)
    return found


def matched_reader(writer: Entity, handle: int) -> PeerQos | None:
    """The reader that `writer` knows by an instance handle, None where it knows it no more."""
    found: PeerQos | None = ddspy_get_matched_subscription_data(writer._ref, handle, _qos_of, peer_qos)
    return found


def _qos_of(
    key: bytes, participant: bytes, of_participant: int, topic: str, kind: str, qos: PeerQos, *_: Any
) -> PeerQos:
    return qos


def _user_data(qos: Any) -> bytes:
    value, size = ct.c_void_p(), ct.c_size_t()
    if not _CQos._get_userdata(qos, ct.byref(value), ct.byref(size)) or not value:
        return b""
    try:
        return ct.string_at(value, size.value)
    finally:
        _CQos.free(value)
