"""DDS as this runtime uses it: one participant, raw CDR readers and writers, one thread that waits.

Samples go through the C library directly, so that the interpreter lock is free while they are written or copied;
a reader keeps its history in C until an executor asks, and what it then gets is copied once.
"""

from __future__ import annotations

import ctypes as ct
import threading
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from cyclonedds.core import DDSException, DDSStatus, Entity, GuardCondition, WaitSet
from cyclonedds.domain import DomainParticipant
from cyclonedds.internal import DDS, dds_c_t
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from . import domains
from .discovery import Discovery
from .exceptions import InvalidHandle
from .logging import get_logger

_dds = DDS._dll_handle
_dds.dds_take_next.argtypes = [ct.c_int32, ct.POINTER(ct.c_void_p), ct.c_void_p]
_dds.dds_write.argtypes = [ct.c_int32, ct.c_void_p]
_dds.dds_free.argtypes = [ct.c_void_p]
_dds.dds_free.restype = None
_dds.dds_waitset_attach.argtypes = [ct.c_int32, ct.c_int32, ct.c_ssize_t]
_dds.dds_waitset_detach.argtypes = [ct.c_int32, ct.c_int32]
_dds.dds_waitset_wait.argtypes = [ct.c_int32, ct.POINTER(ct.c_ssize_t), ct.c_size_t, ct.c_int64]
_dds.dds_take_status.argtypes = [ct.c_int32, ct.POINTER(ct.c_uint32), ct.c_uint32]

TIMEOUT = DDSException.DDS_RETCODE_TIMEOUT
StatusHandler = Callable[[int], None]

_START_FAILED = (
    "DDS could not start in domain {} ({}). Too many processes on this host, no network interface, or a "
    "CYCLONEDDS_URI that it does not understand; see the messages above"
)


class _Buffer(ct.Structure):
    """How cyclonedds' Python types hold a sample: serialised bytes and their count."""

    _fields_ = [("address", ct.c_void_p), ("size", ct.c_size_t)]


@dataclass(frozen=True)
class Sample:
    raw: memoryview  # read-only; frees the C memory when its last view goes
    source_timestamp: int  # [ns]
    publication_handle: int


def dispose(entity: Entity) -> None:
    """Delete a DDS entity now, whoever still holds its Python object."""
    entity.__del__()


class Writer:
    def __init__(
        self, wire: Wire, topic: Topic, qos: Qos, on_status: Callable[[Writer, int], None], more: int = 0
    ) -> None:
        """`more` are further DDS statuses to be told of."""
        self._wire = wire
        self.entity = DataWriter(wire.participant, topic, qos)
        self.gid = self.entity.guid.bytes
        self.handle = self.entity.instance_handle & 0xFFFFFFFFFFFFFFFF
        self._closed = False
        mask = DDSStatus.OfferedIncompatibleQos | DDSStatus.PublicationMatched | more
        wire.watch(self.entity, mask, lambda status: on_status(self, status))

    def write(self, raw: bytearray) -> bool:
        """False where slow reliable readers kept the sample from being accepted in time."""
        if self._closed or self._wire.closing:
            raise InvalidHandle("This was destroyed, or shutdown() was called: nothing can be written any more")
        memory = (ct.c_char * len(raw)).from_buffer(raw)
        buffer = _Buffer(ct.addressof(memory), len(raw))
        result = _dds.dds_write(self.entity._ref, ct.byref(buffer))
        if result == TIMEOUT:
            return False
        if result < 0:
            raise DDSException(result, "while writing a sample")
        return True

    def wait_for_acks(self, timeout_ns: int | None) -> bool:
        forever = (1 << 63) - 1
        result = self.entity._wait_for_acks(self.entity._ref, forever if timeout_ns is None else timeout_ns)
        return bool(result == 0)

    def close(self) -> None:
        self._closed = True
        self._wire.unwatch(self.entity)
        dispose(self.entity)


class Reader:
    def __init__(
        self, wire: Wire, topic: Topic, qos: Qos, on_status: Callable[[Reader, int], None], more: int = 0
    ) -> None:
        """`more` are further DDS statuses to be told of."""
        self._wire = wire
        self._lock = threading.Lock()
        self._closed = False
        self.entity = DataReader(wire.participant, topic, qos)
        self.gid = self.entity.guid.bytes
        mask = DDSStatus.DataAvailable | DDSStatus.RequestedIncompatibleQos | DDSStatus.SubscriptionMatched | more
        wire.watch(self.entity, mask, lambda status: on_status(self, status))

    def take(self) -> Sample | None:
        """The oldest sample that the history still holds, if any."""
        buffer = _Buffer()
        pointer = ct.c_void_p(ct.addressof(buffer))
        info = dds_c_t.sample_info()
        while True:
            with self._lock:
                if self._closed or self._wire.closing:
                    return None
                count = _dds.dds_take_next(self.entity._ref, ct.byref(pointer), ct.byref(info))
            if count < 0:
                raise DDSException(count, "while taking a sample")
            if count == 0 or not buffer.address:
                return None
            raw = _own(buffer.address, buffer.size)
            if info.valid_data:
                return Sample(raw, info.source_timestamp, info.publication_handle)
            buffer.address = None

    def close(self) -> None:
        self._wire.unwatch(self.entity)
        with self._lock:
            self._closed = True
            dispose(self.entity)


def _own(address: int, size: int) -> memoryview:
    memory = (ct.c_ubyte * size).from_address(address)
    weakref.finalize(memory, _dds.dds_free, address)
    return memoryview(memory).toreadonly().cast("B")


class Wire:
    """The process's participant in one domain, and the thread that waits for its events."""

    def __init__(self, domain_id: int, discovery: Discovery, enclave: str = "/") -> None:
        try:
            domains.enter(domain_id, discovery.configuration())
        except DDSException as error:
            raise RuntimeError(_START_FAILED.format(domain_id, error)) from error
        self._domain_id = domain_id
        try:
            self.participant = DomainParticipant(domain_id, Qos(Policy.Userdata(f"enclave={enclave};".encode())))
        except DDSException as error:
            domains.leave(domain_id)
            raise RuntimeError(_START_FAILED.format(domain_id, error)) from error
        self.gid = self.participant.guid.bytes
        self._topics: dict[tuple[str, type], Topic] = {}
        self._handlers: dict[int, tuple[int, StatusHandler]] = {}
        self._waitset = WaitSet(self.participant)
        # Besides ending the wait, it keeps the set from being empty: an empty one returns at once.
        self._end = GuardCondition(self.participant)
        _dds.dds_waitset_attach(self._waitset._ref, self._end._ref, self._end._ref)
        self._chores: list[Callable[[], None]] = []
        self.closing = False
        self._stopping = False
        self._thread = threading.Thread(target=self._wait, name="dds-wait", daemon=True)
        self._thread.start()

    def topic(self, name: str, idl_type: type) -> Topic:
        key = (name, idl_type)
        if key not in self._topics:
            self._topics[key] = Topic(self.participant, name, idl_type)
        return self._topics[key]

    def watch(self, entity: Entity, mask: int, handler: StatusHandler) -> None:
        """Call `handler(status bits)` on the waiting thread whenever one of `mask` is raised."""
        entity.set_status_mask(mask)
        self._handlers[entity._ref] = (mask, handler)
        _dds.dds_waitset_attach(self._waitset._ref, entity._ref, entity._ref)

    def unwatch(self, entity: Entity) -> None:
        if self._handlers.pop(entity._ref, None):
            _dds.dds_waitset_detach(self._waitset._ref, entity._ref)

    def every_slice(self, chore: Callable[[], None]) -> None:
        """Run `chore` on the waiting thread after events and at least every 0.1 s."""
        self._chores.append(chore)

    def _wait(self) -> None:
        triggered = (ct.c_ssize_t * 64)()
        while not self._stopping:
            count = _dds.dds_waitset_wait(self._waitset._ref, triggered, len(triggered), 100_000_000)
            try:
                for reference in triggered[: max(0, min(count, len(triggered)))]:
                    self._handle(reference)
                for chore in self._chores:
                    chore()
            except Exception:
                # Without this thread nothing would ever be received again.
                get_logger("dds").error(traceback.format_exc(), throttle_duration_sec=5.0)

    def _handle(self, reference: int) -> None:
        mask, handler = self._handlers.get(reference, (0, None))
        status = ct.c_uint32()
        # Cleared before it is handled: what arrives meanwhile raises it again.
        if handler and _dds.dds_take_status(reference, ct.byref(status), mask) == 0 and status.value:
            handler(status.value)

    def stop(self) -> None:
        """End the waiting thread. Only then may entities go that it reads: C would free them under its hands."""
        self._stopping = True
        self._end.set(True)
        self._thread.join()

    def close(self) -> None:
        """Tell peers that this participant leaves, and free everything."""
        self.closing = True
        self.stop()
        dispose(self._waitset)
        dispose(self._end)
        self._topics.clear()
        dispose(self.participant)
        domains.leave(self._domain_id)
