"""DDS entities of this runtime: a participant with a thread that waits for events, and its readers and writers of CDR.

Samples are passed directly to the C library, so that the interpreter lock is free while they are written or copied. A
reader's history stays in C until an executor takes a sample, which is copied once.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from cyclonedds.core import DDSException, DDSStatus, Entity, GuardCondition, WaitSet
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from . import cyclone, dds_log
from .cyclone import Sample
from .discovery import Discovery
from .exceptions import InvalidHandle
from .logging import get_logger

StatusHandler = Callable[[int], None]

PERIOD_NS = 100_000_000
"""Longest time between two runs of the periodic tasks."""

_START_FAILED = (
    "DDS could not start in domain {} ({}). Possible causes: too many processes on this host, no network interface, or "
    "an invalid CYCLONEDDS_URI. DDS logged: {}"
)


class Writer:
    """Writes serialised samples. `on_status` is called on the DDS thread when a reader's QoS is incompatible."""

    def __init__(
        self, participant: Participant, topic: Topic, qos: Qos, on_status: Callable[[Writer, int], None]
    ) -> None:
        self._participant = participant
        self.entity = DataWriter(participant.entity, topic, qos)
        self.gid = self.entity.guid.bytes
        self.handle = self.entity.instance_handle & 0xFFFFFFFFFFFFFFFF
        self._closed = False
        participant.watch(self.entity, DDSStatus.OfferedIncompatibleQos, lambda status: on_status(self, status))

    def write(self, raw: bytearray) -> bool:
        """Write a sample. Returns False if slow reliable readers blocked it for too long. Raises InvalidHandle."""
        if self._closed or self._participant.closing:
            raise InvalidHandle("This writer cannot write: it was destroyed, or shutdown() was called")
        return cyclone.write(self.entity, raw)

    def close(self) -> None:
        self._closed = True
        self._participant.unwatch(self.entity)
        cyclone.dispose(self.entity)


class Reader:
    """Receives serialised samples. `on_status` is called on the DDS thread for new data and other status changes."""

    def __init__(
        self,
        participant: Participant,
        topic: Topic,
        qos: Qos,
        on_status: Callable[[Reader, int], None],
        more_statuses: int = 0,
    ) -> None:
        self._participant = participant
        self._lock = threading.Lock()
        self._closed = False
        self.entity = DataReader(participant.entity, topic, qos)
        self.gid = self.entity.guid.bytes
        mask = DDSStatus.DataAvailable | DDSStatus.RequestedIncompatibleQos | more_statuses
        participant.watch(self.entity, mask, lambda status: on_status(self, status))

    def take(self) -> Sample | None:
        """The oldest sample in the history; None if it is empty."""
        while True:
            with self._lock:
                if self._closed or self._participant.closing:
                    return None
                sample, more = cyclone.take(self.entity)
            if sample or not more:
                return sample

    def close(self) -> None:
        self._participant.unwatch(self.entity)
        with self._lock:
            self._closed = True
            cyclone.dispose(self.entity)


@dataclass
class _SharedDomain:
    """A domain, configured once per process and shared by all contexts that use it."""

    domain: Domain
    configuration: str
    users: int = 0


_domains: dict[int, _SharedDomain] = {}
_lock = threading.Lock()


def _enter_domain(domain_id: int, configuration: str) -> None:
    """Create or share a domain. Raises DDSException, and RuntimeError if it has another configuration."""
    with _lock:
        if domain_id not in _domains:
            _domains[domain_id] = _SharedDomain(
                cyclone.make_domain(domain_id, configuration, dds_log.FILE), configuration
            )
        shared = _domains[domain_id]
        if shared.configuration != configuration:
            raise RuntimeError(
                f"Domain {domain_id} is used by this process with other discovery settings: give all contexts of a "
                "process the same ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS and CYCLONEDDS_URI"
            )
        shared.users += 1


def _leave_domain(domain_id: int) -> None:
    """Undo _enter_domain(). The last call frees the domain."""
    with _lock:
        shared = _domains[domain_id]
        shared.users -= 1
        if shared.users == 0:
            del _domains[domain_id]
            cyclone.dispose(shared.domain)


class Participant:
    """The participant of a context in one domain, and the thread that waits for its events."""

    def __init__(self, domain_id: int, discovery: Discovery) -> None:
        try:
            _enter_domain(domain_id, discovery.configuration())
        except DDSException as error:
            raise RuntimeError(_START_FAILED.format(domain_id, error, dds_log.take())) from error
        self._domain_id = domain_id
        try:
            self.entity = DomainParticipant(domain_id, Qos(Policy.Userdata(b"enclave=/;")))
        except DDSException as error:
            _leave_domain(domain_id)
            raise RuntimeError(_START_FAILED.format(domain_id, error, dds_log.take())) from error
        self.gid = self.entity.guid.bytes
        self._topics: dict[tuple[str, type], Topic] = {}
        self._handlers: dict[int, tuple[int, StatusHandler]] = {}
        self._waitset = WaitSet(self.entity)
        # Triggering it ends the wait. It also keeps the set from being empty, in which case a wait returns at once.
        self._end = GuardCondition(self.entity)
        cyclone.attach(self._waitset, self._end)
        self._periodic: list[Callable[[], None]] = []
        self.closing = False
        self._stopping = False
        self._thread = threading.Thread(target=self._wait, name="dds-wait", daemon=True)
        self._thread.start()

    def topic(self, name: str, idl_type: type) -> Topic:
        key = (name, idl_type)
        if key not in self._topics:
            self._topics[key] = Topic(self.entity, name, idl_type)
        return self._topics[key]

    def watch(self, entity: Entity, mask: int, handler: StatusHandler) -> None:
        """Call `handler(status bits)` on the DDS thread whenever a bit of `mask` is raised."""
        entity.set_status_mask(mask)
        self._handlers[cyclone.handle_of(entity)] = (mask, handler)
        cyclone.attach(self._waitset, entity)

    def unwatch(self, entity: Entity) -> None:
        if self._handlers.pop(cyclone.handle_of(entity), None):
            cyclone.detach(self._waitset, entity)

    def add_periodic_task(self, task: Callable[[], None]) -> None:
        """Run `task` on the DDS thread after events, and at least every 0.1 s."""
        self._periodic.append(task)

    def _wait(self) -> None:
        while not self._stopping:
            try:
                for handle in cyclone.wait(self._waitset, PERIOD_NS):
                    self._handle(handle)
                for task in self._periodic:
                    task()
            except Exception:  # noqa: PERF203
                # Without this thread nothing would ever be received again.
                get_logger("dds").error(traceback.format_exc(), throttle_duration_sec=5.0)

    def _handle(self, handle: int) -> None:
        mask, handler = self._handlers.get(handle, (0, None))
        # The status is cleared before it is handled, so that new data raises it again.
        if handler and (status := cyclone.take_status(handle, mask)):
            handler(status)

    def stop(self) -> None:
        """End the DDS thread. It must end before entities are freed, since it reads them."""
        self._stopping = True
        self._end.set(True)
        self._thread.join()

    def close(self) -> None:
        """Leave the network and free everything."""
        self.closing = True
        self.stop()
        cyclone.dispose(self._waitset)
        cyclone.dispose(self._end)
        self._topics.clear()
        cyclone.dispose(self.entity)
        _leave_domain(self._domain_id)
