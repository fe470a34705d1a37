"""All uses of private parts of the `cyclonedds` package, with the reason for each.

`entity._ref` is the C library's handle of an entity.
"""

from __future__ import annotations

import ctypes as ct
import os
import weakref
from dataclasses import dataclass
from functools import cache
from typing import Any

# Functions of the C extension that pass discovery data to callbacks. The package's own functions let C write into
# attributes of a class, so two threads that read at the same time get each other's values or a null pointer.
from cyclonedds._clayer import (
    ddspy_get_matched_publication_data,
    ddspy_get_matched_subscription_data,
    ddspy_take_endpoint,
    ddspy_take_participant,
)
from cyclonedds.core import DDSException, Entity, InstanceState, WaitSet
from cyclonedds.domain import Domain
from cyclonedds.internal import DDS, dds_c_t
from cyclonedds.qos import _CQos  # its getters are the only way to read a policy behind a pointer of C

# C functions that the package does not offer, or only with a conversion of samples in Python.
_dds = DDS._dll_handle
_dds.dds_take_next.argtypes = [ct.c_int32, ct.POINTER(ct.c_void_p), ct.c_void_p]
_dds.dds_write.argtypes = [ct.c_int32, ct.c_void_p]
_dds.dds_free.argtypes = [ct.c_void_p]
_dds.dds_free.restype = None
_dds.dds_waitset_attach.argtypes = [ct.c_int32, ct.c_int32, ct.c_ssize_t]
_dds.dds_waitset_detach.argtypes = [ct.c_int32, ct.c_int32]
_dds.dds_waitset_wait.argtypes = [ct.c_int32, ct.POINTER(ct.c_ssize_t), ct.c_size_t, ct.c_int64]
_dds.dds_take_status.argtypes = [ct.c_int32, ct.POINTER(ct.c_uint32), ct.c_uint32]

BEST_EFFORT, TRANSIENT_LOCAL = 0, 1  # C's dds_reliability_kind and dds_durability_kind
USER_DATA_BYTES = 4096
"""More user data of a peer is ignored; ROS needs about 200 bytes."""


class _Buffer(ct.Structure):
    """A sample in the layout of the package's Python types: address and number of its bytes."""

    _fields_ = [("address", ct.c_void_p), ("size", ct.c_size_t)]


@dataclass(frozen=True)
class Sample:
    """A received sample, serialised."""

    raw: memoryview  # read-only; the C memory is freed with its last view
    source_timestamp: int  # [ns]
    publication_handle: int


@dataclass(frozen=True)
class Peer:
    """A remote endpoint: its participant and its policies. DDS does not announce the history."""

    participant: bytes
    reliable: bool
    transient_local: bool
    user_data: dict[str, str]


@dataclass(frozen=True)
class Discovered:
    """A discovery event: an endpoint has appeared, or has gone (`peer` is None)."""

    gid: bytes
    topic: str
    type_name: str
    peer: Peer | None


def handle_of(entity: Entity) -> int:
    """The number that a wait set returns for an entity with events."""
    return int(entity._ref)


def dispose(entity: Any) -> None:
    """Delete a DDS entity or domain now; the package does this only in the destructor."""
    entity.__del__()


@cache
def _stream(file: int) -> int:
    """A C FILE that appends to a file descriptor. It is never closed, since domains use it until they end."""
    libc = ct.CDLL(None)
    libc.fdopen.restype = ct.c_void_p
    return int(libc.fdopen(os.dup(file), b"a"))


def make_domain(domain_id: int, configuration: str, log_file: int) -> Domain:
    """Create a domain that logs to the file descriptor `log_file`, or to stderr if it is negative.

    The C library has no function to set the log file: it uses libc's `stderr` of the moment when a domain is created.
    """
    if log_file < 0:
        return Domain(domain_id, configuration)
    stderr = ct.c_void_p.in_dll(ct.CDLL(None), "stderr")
    original = stderr.value
    stderr.value = _stream(log_file)
    try:
        return Domain(domain_id, configuration)
    finally:
        stderr.value = original


def write(writer: Entity, raw: bytearray) -> bool:
    """Write a serialised sample without the interpreter lock. Returns False if slow readers blocked it for too long."""
    memory = (ct.c_char * len(raw)).from_buffer(raw)
    buffer = _Buffer(ct.addressof(memory), len(raw))
    result = _dds.dds_write(writer._ref, ct.byref(buffer))
    if result < 0 and result != DDSException.DDS_RETCODE_TIMEOUT:
        raise DDSException(result, "while writing a sample")
    return bool(result >= 0)


def wait_for_acks(writer: Any, timeout_ns: int) -> bool:
    """Returns True if all reliable readers acknowledged everything in time. Not public for writers."""
    return bool(writer._wait_for_acks(writer._ref, timeout_ns) == 0)


def take(reader: Entity) -> tuple[Sample | None, bool]:
    """Returns the oldest sample, and True if there was one. A sample that only reports a state change is None."""
    buffer = _Buffer()
    pointer = ct.c_void_p(ct.addressof(buffer))
    info = dds_c_t.sample_info()
    count = _dds.dds_take_next(reader._ref, ct.byref(pointer), ct.byref(info))
    if count < 0:
        raise DDSException(count, "while taking a sample")
    if count == 0 or not buffer.address:
        return None, False
    raw = _own(buffer.address, buffer.size)
    return (Sample(raw, info.source_timestamp, info.publication_handle) if info.valid_data else None), True


def _own(address: int, size: int) -> memoryview:
    """A read-only view of memory from the C library; the memory is freed with its last view."""
    memory = (ct.c_ubyte * size).from_address(address)
    weakref.finalize(memory, _dds.dds_free, address)
    return memoryview(memory).toreadonly().cast("B")


def attach(waitset: WaitSet, entity: Entity) -> None:
    """Attach an entity so that the wait set reports it; the package's attach() does not."""
    _dds.dds_waitset_attach(waitset._ref, entity._ref, entity._ref)


def detach(waitset: WaitSet, entity: Entity) -> None:
    _dds.dds_waitset_detach(waitset._ref, entity._ref)


def wait(waitset: WaitSet, timeout_ns: int, most: int = 64) -> list[int]:
    """Wait for events. Returns the handles of at most `most` entities with events, none after `timeout_ns`."""
    triggered = (ct.c_ssize_t * most)()
    count = _dds.dds_waitset_wait(waitset._ref, triggered, most, timeout_ns)
    return triggered[: max(0, min(count, most))]


def take_status(handle: int, mask: int) -> int:
    """Return the raised status bits of `mask`, and clear them."""
    status = ct.c_uint32()
    return status.value if _dds.dds_take_status(handle, ct.byref(status), mask) == 0 else 0


def matched_writer(reader: Entity, handle: int) -> Peer | None:
    """The writer with this instance handle that is matched with `reader`; None if it has gone."""
    found: Peer | None = ddspy_get_matched_publication_data(reader._ref, handle, _matched, _peer)
    return found


def matched_reader(writer: Entity, handle: int) -> Peer | None:
    """The reader with this instance handle that is matched with `writer`; None if it has gone."""
    found: Peer | None = ddspy_get_matched_subscription_data(writer._ref, handle, _matched, _peer)
    return found


def take_participants(reader: Entity) -> list[tuple[bytes, bool]]:
    """Returns (GUID, is present) of each participant that has appeared or gone."""
    taken = ddspy_take_participant(reader._ref, 1000, lambda key, qos, info: (bytes(key), _alive(info)), _peer)
    return taken if isinstance(taken, list) else []


def take_endpoints(reader: Entity) -> list[Discovered]:
    """Readers or writers that have appeared or gone."""
    taken = ddspy_take_endpoint(reader._ref, 10_000, _discovered, _peer)
    return taken if isinstance(taken, list) else []


def _matched(key: bytes, participant: bytes, _: int, topic: str, type_name: str, qos: Any, *__: Any) -> Peer:
    return Peer(bytes(participant), *qos)


def _discovered(
    key: bytes, participant: bytes, handle: int, topic: str, type_name: str, qos: Any, info: Any, type_id: Any
) -> Discovered:
    return Discovered(bytes(key), topic, type_name, Peer(bytes(participant), *qos) if _alive(info) else None)


def _alive(info: Any) -> bool:
    return bool(info.valid_data and info.instance_state & InstanceState.Alive)


def _peer(pointer: int) -> tuple[bool, bool, dict[str, str]]:
    """Returns (reliable, transient local, user data) from a pointer to C's dds_qos_t."""
    qos = ct.cast(pointer, dds_c_t.qos_p)
    reliability, blocking, durability = dds_c_t.reliability(), dds_c_t.duration(), dds_c_t.durability()
    reliable = bool(_CQos._get_reliability(qos, ct.byref(reliability), ct.byref(blocking)))
    durable = bool(_CQos._get_durability(qos, ct.byref(durability)))
    return (
        reliable and reliability.value != BEST_EFFORT,
        durable and durability.value == TRANSIENT_LOCAL,
        _pairs(_user_data(qos)),
    )


def _pairs(data: bytes) -> dict[str, str]:
    """The `key=value;` pairs that ROS puts into the user data of endpoints."""
    return dict(part.split("=", 1) for part in data.decode(errors="replace").split(";") if "=" in part)


def _user_data(qos: Any) -> bytes:
    value, size = ct.c_void_p(), ct.c_size_t()
    if not _CQos._get_userdata(qos, ct.byref(value), ct.byref(size)) or not value:
        return b""
    try:
        return ct.string_at(value, min(size.value, USER_DATA_BYTES))
    finally:
        _CQos.free(value)
