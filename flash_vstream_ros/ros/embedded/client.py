"""Client of a service, as rclpy.client."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import cyclone
from .callback_groups import CallbackGroup
from .cdr import ENCAPSULATION, SERVICE_HEADER, CorruptSample, deserialize, serialize
from .cyclone import Peer
from .receiver import Receiver
from .task import Future
from .waitable import Work

if TYPE_CHECKING:
    from .dds import Reader, Writer
    from .node import Node


class Client(Receiver):
    """Client of a service. All clients read the same topic, so replies to others are dropped on arrival."""

    writer: Writer

    def __init__(self, node: Node, srv_type: Any, name: str, callback_group: CallbackGroup) -> None:
        super().__init__(node, name, "replies", callback_group)
        self.srv_type = srv_type
        self.srv_name = name
        self._lock = threading.Lock()
        self._sequence = 0
        self._pending: dict[int, Future] = {}
        self._replies: deque[tuple[Future, memoryview]] = deque()

    def call_async(self, request: Any) -> Future:
        """Send a request. The future gets the response while the node is spun, unless the future is cancelled.

        Raises TypeError if the request has another type, and TimeoutError if the service accepts no requests.
        """
        if not isinstance(request, self.srv_type.Request):
            expected = self.srv_type.Request.__name__
            raise TypeError(f"Expected {expected} for {self.srv_name}, got {type(request).__name__}")
        future = Future()
        with self._lock:
            self._sequence += 1
            number = self._sequence
            self._pending[number] = future
        future.add_done_callback(lambda _: self._forget(number))
        try:
            if not self.writer.write(serialize(request, SERVICE_HEADER.pack(self.writer.handle, number))):
                raise TimeoutError(f"{self.srv_name} accepts no requests: its node is too busy; try again later")
        except BaseException:
            future.cancel()
            raise
        return future

    def _forget(self, number: int) -> None:
        with self._lock:
            self._pending.pop(number, None)

    def service_is_ready(self) -> bool:
        """Returns True if a server receives requests of this client, and the client receives its replies."""
        writer, reader = self.writer.entity, self.reader.entity
        servers = (cyclone.matched_reader(writer, handle) for handle in writer.get_matched_subscriptions())
        repliers = (cyclone.matched_writer(reader, handle) for handle in reader.get_matched_publications())
        return bool(_service_ids(servers) & _service_ids(repliers))

    def wait_for_service(self, timeout_sec: float | None = None) -> bool:
        notifier = self._node.context.notifier
        deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
        while self._node.context.ok():
            seen = notifier.notifications
            if self.service_is_ready():
                return True
            remaining = 0.1 if deadline is None else min(0.1, deadline - time.monotonic())
            if remaining <= 0:
                return False
            notifier.wait(seen, remaining)
        return False

    def on_data(self, reader: Reader) -> None:
        """Keep replies to this client, and drop all others."""
        start = len(ENCAPSULATION)
        while sample := reader.take():
            if len(sample.raw) < start + SERVICE_HEADER.size:
                continue
            handle, number = SERVICE_HEADER.unpack_from(sample.raw, start)
            if handle == self.writer.handle:
                with self._lock:
                    future = self._pending.pop(number, None)
                if future is not None:
                    self._replies.append((future, sample.raw))
        self.signalled = True

    def take(self) -> Work | None:
        self.signalled = False
        try:
            future, raw = self._replies.popleft()
        except IndexError:
            return None
        self.signalled = True  # there may be more
        return lambda: self._complete(future, raw)

    def _complete(self, future: Future, raw: memoryview) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            response, _ = deserialize(raw, self.srv_type.Response, SERVICE_HEADER.size)
        except CorruptSample as error:
            future.set_exception(error)
        else:
            future.set_result(response)


def _service_ids(peers: Iterable[Peer | None]) -> set[str]:
    """Ids of servers. Both endpoints of a server announce the same id; those of other middlewares announce none."""
    return {peer.user_data["serviceid"] for peer in peers if peer is not None and "serviceid" in peer.user_data}
