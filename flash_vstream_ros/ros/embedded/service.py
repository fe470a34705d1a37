"""Service, as rclpy.service: one callback per request, its reply to the client that asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .callback_groups import CallbackGroup
from .cdr import ENCAPSULATION, SERVICE_HEADER, serialize
from .peers import matched_reader, matched_writer
from .qos import QoSProfile
from .receiver import Receiver

if TYPE_CHECKING:
    from .node import Node
    from .wire import Sample, Writer

MATCH_PATIENCE = 0.1
"""How long a reply waits until the client's reader is known [s]; rmw_cyclonedds does the same."""


class Service(Receiver):
    writer: Writer

    def __init__(
        self,
        node: Node,
        srv_type: Any,
        name: str,
        callback: Callable[[Any, Any], Any],
        callback_group: CallbackGroup,
        qos: QoSProfile,
    ) -> None:
        super().__init__(node, name, "requests", callback_group)
        self.srv_type = srv_type
        self.srv_name = name
        self.service_name = name
        self.callback = callback
        self.qos_profile = qos

    def _run(self, sample: Sample) -> None:
        request = self._deserialize(sample, self.srv_type.Request, SERVICE_HEADER.size)
        if request is None:
            return
        response = self.callback(request, self.srv_type.Response())
        start = len(ENCAPSULATION)
        header = bytes(sample.raw[start : start + SERVICE_HEADER.size])
        self.send_response(response, header, sample.publication_handle)

    def send_response(self, response: Any, header: bytes, client: int) -> None:
        """Reply to the request that had this header and was written by the writer with handle `client`."""
        if not isinstance(response, self.srv_type.Response):
            raise TypeError(
                f"The callback of {self.service_name} returned {type(response).__name__}, "
                f"expected {self.srv_type.Response.__name__}"
            )
        raw = serialize(response, header)
        present = self._wait_for_client(client)
        if present and self.writer.write(raw):
            return
        if present is None:
            self._node.get_logger().debug(f"{self.service_name}: a client has gone before its reply")
        else:
            self._node.get_logger().warning(
                f"{self.service_name}: a reply is lost, its client does not take it", throttle_duration_sec=5.0
            )

    def _wait_for_client(self, client: int) -> bool | None:
        """True once the client's reply reader is matched, False when it is not in time, None when it has gone."""
        deadline = time.monotonic() + MATCH_PATIENCE
        while True:
            request_writer = matched_writer(self.reader.entity, client)
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
        peers = (matched_reader(writer, handle) for handle in writer.get_matched_subscriptions())
        return any(peer is not None and peer.user_data.get("clientid") == client_id for peer in peers)

    def destroy(self) -> None:
        self._node.destroy_service(self)
