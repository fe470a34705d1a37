"""Client of a service, as rclpy.client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .callback_groups import CallbackGroup
from .cdr import ENCAPSULATION, SERVICE_HEADER, CorruptSample, deserialize, serialize
from .peers import PeerQos, matched_reader, matched_writer
from .qos import QoSProfile
from .task import Future
from .waitable import Waitable, Work

if TYPE_CHECKING:
    from .node import Node
    from .wire import Reader, Writer


class Client(Waitable):
    reader: Reader
    writer: Writer

    def __init__(self, node: Node, srv_type: Any, name: str, callback_group: CallbackGroup, qos: QoSProfile) -> None:
        super().__init__(callback_group)
        self._node = node
        self.srv_type = srv_type
        self.srv_name = name
        self.service_name = name
        self.qos_profile = qos
        self._lock = threading.Lock()
        self._sequence = 0
        self._pending: dict[int, Future] = {}

    def call_async(self, request: Any) -> Future:
        """Send a request; the future gets the response while the node is spun."""
        if not isinstance(request, self.srv_type.Request):
            expected = self.srv_type.Request.__name__
            raise TypeError(f"Expected {expected} for {self.service_name}, got {type(request).__name__}")
        future = Future()
        with self._lock:
            self._sequence += 1
            number = self._sequence
            self._pending[number] = future
        future.add_done_callback(lambda _: self._forget(number))
        try:
            if not self.writer.write(serialize(request, SERVICE_HEADER.pack(self.writer.handle, number))):
                raise TimeoutError(f"{self.service_name} does not take requests")
        except BaseException:
            self._forget(number)
            raise
        return future

    def call(self, request: Any, timeout_sec: float | None = None) -> Any:
        """Send a request and wait for the response while another thread spins.

        Returns None when `timeout_sec` is over. Raises TypeError, or what the future raises.
        """
        future = self.call_async(request)
        if not future.wait(timeout_sec):
            self.remove_pending_request(future)
            return None
        return future.result()

    def remove_pending_request(self, future: Future) -> None:
        """Forget a request; a late response is then ignored."""
        with self._lock:
            self._pending = {number: other for number, other in self._pending.items() if other is not future}

    def _forget(self, number: int) -> None:
        with self._lock:
            self._pending.pop(number, None)

    def service_is_ready(self) -> bool:
        """Whether a server takes requests and its replies reach this client."""
        writer, reader = self.writer.entity, self.reader.entity
        servers = _service_ids(matched_reader(writer, handle) for handle in writer.get_matched_subscriptions())
        repliers = _service_ids(matched_writer(reader, handle) for handle in reader.get_matched_publications())
        return bool(servers & repliers)

    def wait_for_service(self, timeout_sec: float | None = None) -> bool:
        bell = self._node.context.bell
        deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
        while self._node.context.ok():
            seen = bell.rings
            if self.service_is_ready():
                return True
            left = 0.1 if deadline is None else min(0.1, deadline - time.monotonic())
            if left <= 0:
                return False
            bell.wait(seen, left)
        return False

    def take(self) -> Work | None:
        self.signalled = False
        start = len(ENCAPSULATION)
        while sample := self.reader.take():
            if len(sample.raw) < start + SERVICE_HEADER.size:
                continue
            handle, number = SERVICE_HEADER.unpack_from(sample.raw, start)
            with self._lock:
                # All clients of a service read the same topic.
                future = self._pending.get(number) if handle == self.writer.handle else None
            if future is not None:
                self.signalled = True  # there may be more
                return self._completion(future, sample.raw)
        return None

    def _completion(self, future: Future, raw: memoryview) -> Work:
        def complete() -> None:
            try:
                response, _ = deserialize(raw, self.srv_type.Response, SERVICE_HEADER.size)
            except CorruptSample as error:
                future.set_exception(error)
            else:
                future.set_result(response)

        return complete

    def destroy(self) -> None:
        self._node.destroy_client(self)


def _service_ids(peers: Iterable[PeerQos | None]) -> set[str]:
    return {peer.user_data.get("serviceid", "") for peer in peers if peer is not None}
