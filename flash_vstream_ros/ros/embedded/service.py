"""Service, as in rclpy.service: calls a callback for each request and replies to the client."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cyclonedds.core import DDSStatus

from . import cyclone
from .callback_groups import CallbackGroup
from .cdr import ENCAPSULATION, SERVICE_HEADER, serialize
from .receiver import Receiver
from .waitable import Work

if TYPE_CHECKING:
    from .cyclone import Sample
    from .dds import Reader, Writer
    from .node import Node

MATCH_TIMEOUT = 20.0
"""Longest time that a reply waits for the discovery of the client's reader [s], which is slow on a busy machine."""
RETRY_PERIOD = 0.05  # between two attempts to send a reply [s]
MAX_UNSENT = 100  # replies that wait for the discovery of a client's reader
MAX_WAITING = 1000  # requests
MAX_WAITING_BYTES = 64 << 20
LARGEST_REQUEST = 1 << 20
"""Larger requests [bytes], and those that exceed the limits of waiting requests, are dropped, counted and reported."""


@dataclass(frozen=True)
class _Reply:
    """A serialised reply, which is sent once the client's reader is known."""

    raw: bytearray
    client: int  # instance handle of the client's request writer
    deadline: float


class Service(Receiver):
    """A service. Its requests wait in a bounded queue, since all clients share the reader's history."""

    writer: Writer

    def __init__(
        self,
        node: Node,
        srv_type: Any,
        name: str,
        callback: Callable[[Any, Any], Any],
        callback_group: CallbackGroup,
    ) -> None:
        super().__init__(node, name, "requests", callback_group)
        self.srv_type = srv_type
        self.srv_name = name
        self.callback = callback
        self.replies_lost = 0
        self._waiting: deque[Sample] = deque()
        self._waiting_bytes = 0
        self._unsent: deque[_Reply] = deque()
        self._retry_at = 0.0
        self._lock = threading.Lock()

    def on_data(self, reader: Reader) -> None:
        while sample := reader.take():
            # As Python objects, many small fields would take a hundred times the memory of the serialised request.
            if len(sample.raw) > LARGEST_REQUEST:
                self._drop(f"it has {len(sample.raw)} bytes, more than {LARGEST_REQUEST}")
                continue
            with self._lock:
                size = self._waiting_bytes + len(sample.raw)
                fits = len(self._waiting) < MAX_WAITING and size <= MAX_WAITING_BYTES
                if fits:
                    self._waiting.append(sample)
                    self._waiting_bytes = size
            if not fits:
                self._drop(f"{len(self._waiting)} requests with {self._waiting_bytes} bytes were waiting")
        self.signalled = True

    def on_status(self, reader: Reader, status: int) -> None:
        if status & DDSStatus.SampleLost:
            lost = reader.entity.get_sample_lost_status().total_count_change
            self._drop("their clients sent them faster than the network delivers them", lost)
        super().on_status(reader, status)

    @property
    def ready(self) -> bool:
        return self.signalled or self.due_in == 0.0

    @property
    def due_in(self) -> float | None:
        return max(0.0, self._retry_at - time.monotonic()) if self._unsent else None

    def take(self) -> Work | None:
        if self.due_in == 0.0:  # replies wait for the discovery of a client's reader
            return self._retry
        self.signalled = False
        with self._lock:
            if not self._waiting:
                return None
            sample = self._waiting.popleft()
            self._waiting_bytes -= len(sample.raw)
        self.signalled = True  # there may be more
        return lambda: self._run(sample)

    def _run(self, sample: Sample) -> None:
        request = self._deserialize(sample, self.srv_type.Request, SERVICE_HEADER.size)
        if request is None:
            return
        response = self.callback(request, self.srv_type.Response())
        if not isinstance(response, self.srv_type.Response):
            raise TypeError(
                f"The callback of {self.srv_name} returned {type(response).__name__}, "
                f"expected {self.srv_type.Response.__name__}"
            )
        start = len(ENCAPSULATION)
        raw = serialize(response, bytes(sample.raw[start : start + SERVICE_HEADER.size]))
        self._send(_Reply(raw, sample.publication_handle, time.monotonic() + MATCH_TIMEOUT))

    def _send(self, reply: _Reply) -> None:
        """Send a reply, or keep it until discovery has found the client's reader."""
        request_writer = cyclone.matched_writer(self.reader.entity, reply.client)
        if request_writer is None:
            self._node.get_logger().debug(f"{self.srv_name}: a client left before its reply")
            return
        client_id = request_writer.user_data.get("clientid")
        reader_known = client_id is None or self._reply_reader_exists(client_id)
        if not reader_known and time.monotonic() < reply.deadline and len(self._unsent) < MAX_UNSENT:
            self._retry_at = time.monotonic() + RETRY_PERIOD
            self._unsent.append(reply)
        elif not (reader_known and self.writer.write(reply.raw)):
            self.replies_lost += 1
            text = f"{self.srv_name}: {self.replies_lost} replies lost, the last because its client did not receive it"
            self._node.get_logger().warning(text, throttle_duration_sec=5.0)

    def _retry(self) -> None:
        for _ in range(len(self._unsent)):
            try:
                reply = self._unsent.popleft()
            except IndexError:  # another thread retries too
                return
            self._send(reply)

    def _reply_reader_exists(self, client_id: str) -> bool:
        writer = self.writer.entity
        peers = (cyclone.matched_reader(writer, handle) for handle in writer.get_matched_subscriptions())
        return any(peer is not None and peer.user_data.get("clientid") == client_id for peer in peers)
