"""Service, as rclpy.service: one callback per request, its reply to the client that asked."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cyclonedds.core import DDSStatus

from . import cyclone
from .callback_groups import CallbackGroup
from .cdr import ENCAPSULATION, SERVICE_HEADER, serialize
from .receiver import Receiver
from .waitable import Work

if TYPE_CHECKING:
    from .cyclone import Sample
    from .node import Node
    from .wire import Reader, Writer

MATCH_PATIENCE = 0.1
"""Longest wait of a reply for the client's reader to be known [s]; rmw_cyclonedds does the same."""
MOST_WAITING = 1000
MOST_WAITING_BYTES = 64 << 20
LARGEST_REQUEST = 1 << 20
"""Requests that are larger, or wait for their callback beyond these, are dropped, counted and reported."""


class Service(Receiver):
    """Requests wait here, not in the reader, whose history all clients share."""

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
        self._lock = threading.Lock()

    def on_data(self, reader: Reader) -> None:
        while sample := reader.take():
            if len(sample.raw) > LARGEST_REQUEST:  # very many small fields take a hundred times its size
                self._drop(f"it has {len(sample.raw)} bytes of at most {LARGEST_REQUEST}")
                continue
            with self._lock:
                size = self._waiting_bytes + len(sample.raw)
                fits = len(self._waiting) < MOST_WAITING and size <= MOST_WAITING_BYTES
                if fits:
                    self._waiting.append(sample)
                    self._waiting_bytes = size
            if not fits:
                self._drop(f"{len(self._waiting)} requests of {self._waiting_bytes} bytes wait already")
        self.signalled = True

    def on_status(self, reader: Reader, status: int) -> None:
        if status & DDSStatus.SampleLost:
            lost = reader.entity.get_sample_lost_status().total_count_change
            self._drop("their clients sent them faster than the network took them", lost)
        super().on_status(reader, status)

    def take(self) -> Work | None:
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
        self._reply(response, bytes(sample.raw[start : start + SERVICE_HEADER.size]), sample.publication_handle)

    def _reply(self, response: Any, header: bytes, client: int) -> None:
        """Send the reply to the request with this header from the writer with handle `client`."""
        raw = serialize(response, header)
        present = self._wait_for_client(client)
        if present is None:
            self._node.get_logger().debug(f"{self.srv_name}: a client has gone before its reply")
        elif not (present and self.writer.write(raw)):
            self.replies_lost += 1
            text = f"{self.srv_name}: {self.replies_lost} replies lost, the last because its client does not take it"
            self._node.get_logger().warning(text, throttle_duration_sec=5.0)

    def _wait_for_client(self, client: int) -> bool | None:
        """True once the client's reply reader is matched, False if it is not in time, None if it has gone."""
        deadline = time.monotonic() + MATCH_PATIENCE
        while True:
            request_writer = cyclone.matched_writer(self.reader.entity, client)
            if request_writer is None:
                return None
            client_id = request_writer.user_data.get("clientid")
            if client_id is None or self._reply_reader_exists(client_id):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)

    def _reply_reader_exists(self, client_id: str) -> bool:
        writer = self.writer.entity
        peers = (cyclone.matched_reader(writer, handle) for handle in writer.get_matched_subscriptions())
        return any(peer is not None and peer.user_data.get("clientid") == client_id for peer in peers)
