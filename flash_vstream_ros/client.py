"""A client of the node's services for the command line and for tests: one request at a time. Needs no torch."""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from flash_vstream_ros.ros import Context, Node, QoSProfile, SingleThreadedExecutor, init, ok, shutdown
from flash_vstream_ros.ros.interfaces import AnswerPiece, AskScene, to_dict
from flash_vstream_ros.ros.service_peers import why_unanswerable
from flash_vstream_ros.ros.stamps import duration_message, stamp_at

# A reply that is late by more than this was lost: its server ended, or its middleware cannot share services.
GRACE_S = 30.0
READY_POLL_S = 0.2
SERVERS_POLL_S = 0.5
# Longer than the node itself waits for its worker.
CALL_S = 90.0
# All clients of a service read the same replies: a short history loses this client's among those to others.
CALLS = QoSProfile(depth=1000)


class NoService(RuntimeError):
    """No node offers the service, or none that can answer."""


class AskClient:
    """Asks a node through its service. A context manager with a ROS context of its own."""

    def __init__(self, service: str, ros_args: Sequence[str] = (), stream_of: str | None = None) -> None:
        self.on_piece: Callable[[str], None] | None = None  # gets the pieces of this client's own answers
        self._id = uuid.uuid4().hex  # what the ids of its questions start with
        self._numbers = itertools.count()
        self._service_name = service
        self._ros_args = list(ros_args)
        self._stream_of = stream_of

    def __enter__(self) -> AskClient:
        self._context = Context()
        init(args=["flash_vstream_client", *self._ros_args], context=self._context)
        self.node = Node(f"flash_vstream_client_{os.getpid()}", context=self._context)
        self.service = self.node.create_client(AskScene, self._service_name, qos_profile=CALLS)
        self._clients: dict[str, Any] = {}
        if self._stream_of:
            self.node.create_subscription(AnswerPiece, f"{self._stream_of}/answer_stream", self._on_stream, 100)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        if ok(context=self._context):
            shutdown(context=self._context)

    def request(
        self,
        question: str,
        *,
        cameras: Sequence[str] = (),
        since_s: float = 0.0,
        until_s: float = 0.0,
        deadline_s: float = 0.0,
        max_new_tokens: int = 0,
        stream: bool = False,
    ) -> AskScene.Request:
        return AskScene.Request(
            question=question,
            question_id=f"{self._id}:{next(self._numbers)}",
            cameras=list(cameras),
            since=stamp_at(since_s),
            until=stamp_at(until_s),
            deadline=duration_message(deadline_s),
            max_new_tokens=max_new_tokens,
            stream=stream,
        )

    def ask_when_ready(self, request: AskScene.Request, wait_s: float) -> AskScene.Response:
        """Ask, waiting up to `wait_s` seconds for a node to appear and to load its model.

        Raises NoService when none appears, TimeoutError when one does not reply.
        """
        until = time.monotonic() + wait_s
        _wait_for(self.node, self.service, wait_s)
        while True:
            reply = self.ask(request)
            loading = reply.error_code == reply.NOT_READY and "loading" in reply.error_msg
            if not loading or time.monotonic() > until:
                return reply
            time.sleep(READY_POLL_S)

    def ask(self, request: AskScene.Request) -> AskScene.Response:
        """Ask once. Raises TimeoutError when the reply does not come."""
        return self._reply(self.service, request, max(request.deadline.sec, GRACE_S) + GRACE_S)

    def call(self, kind: Any, service: str, request: Any, wait_s: float) -> Any:
        """The reply of another service of the node, waiting up to `wait_s` seconds for it to appear.

        Raises NoService when it does not, TimeoutError when it does not reply.
        """
        client = self._clients.get(service) or self.node.create_client(kind, service)
        self._clients[service] = client
        _wait_for(self.node, client, wait_s)
        return self._reply(client, request, CALL_S)

    def _reply(self, client: Any, request: Any, allowed_s: float) -> Any:
        until = time.monotonic() + allowed_s
        servers = self._servers(client)
        future = client.call_async(request)
        while not future.done() and (left := until - time.monotonic()) > 0:
            self._executor.spin_until_future_complete(future, timeout_sec=min(left, SERVERS_POLL_S))
            now = self._servers(client)
            if not future.done() and servers and now and not servers & now:
                # The request went to a node that had ended unnoticed, and another has taken its place.
                servers, future = now, client.call_async(request)
        if not future.done():
            raise TimeoutError(f"no reply from {client.srv_name} within {allowed_s:.0f} s; {self._offered_by(client)}")
        return future.result()

    def _servers(self, client: Any) -> set[bytes]:
        """The ids of the servers that the client knows, from the topic of their replies on DDS; else empty."""
        return {bytes(info.endpoint_gid) for info in self._server_infos(client)}

    def _offered_by(self, client: Any) -> str:
        names = {f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in self._server_infos(client)}
        return f"offered by {', '.join(sorted(names))}" if names else "no node offers it any more"

    def _server_infos(self, client: Any) -> list[Any]:
        topic = f"rr{self.node.resolve_service_name(client.srv_name)}Reply"
        return list(self.node.get_publishers_info_by_topic(topic, no_mangle=True))

    def spin(self, seconds: float) -> None:
        """Handle what arrives for a while."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    @staticmethod
    def to_dict(reply: AskScene.Response) -> dict[str, Any]:
        """The reply with the service's field names; thumbnails are left out."""
        return to_dict(reply, binary=False)

    def _on_stream(self, piece: AnswerPiece) -> None:
        if self.on_piece and piece.question_id.startswith(self._id):
            self.on_piece(piece.text)


def _wait_for(node: Node, client: Any, wait_s: float) -> None:
    ready = client.wait_for_service(timeout_sec=wait_s)
    if reason := why_unanswerable(node, client.srv_name):
        raise NoService(reason)
    if not ready:
        raise NoService(
            f"no node offers {client.srv_name} after {wait_s:.0f} s; start one with `flash-vstream-ros node`"
            " and check that ROS_DOMAIN_ID is the same here and there, and that neither side uses rmw_zenoh_cpp alone"
        )
