"""Calls services of a node, one at a time, in a ROS context of its own."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any, TypeVar

from flash_vstream_ros.ros import Context, Node, SingleThreadedExecutor, init, ok, shutdown
from flash_vstream_ros.ros.interfaces import String
from flash_vstream_ros.ros.service_peers import server_infos, why_unanswerable

from .errors import ClientError, NoReply, NoService, Stopped

READY_POLL_S = 0.2
SERVERS_POLL_S = 0.5  # between two checks for Ctrl-C and for a node that has ended
CALL_S = 90.0  # longest wait for a reply without a deadline; longer than the node waits for its worker
CANCEL_S = 2.0  # longest wait for the reply to a cancelled question
NAMES_WAIT_S = 2.0  # longest wait for the name of a server's node, which is discovered after its endpoints
UNKNOWN_NAME = "_UNKNOWN_"  # part of rmw's placeholder for a node name or namespace that is not discovered yet
GONE_S = 10.0  # if the service has no server for this long, its node has ended
Caller = TypeVar("Caller", bound="ServiceCaller")


class ServiceCaller:
    """A ROS node that calls services of the node `node_name`. A context manager.

    Entering it raises ClientError if ROS does not start or refuses an argument or a name.
    """

    def __init__(self, ros_args: Sequence[str], node_name: str) -> None:
        self.stop = threading.Event()  # if another thread sets it, the running call is cancelled and raises Stopped
        self.node_name = node_name
        self._id = uuid.uuid4().hex  # prefix of the ids of its questions
        self._ros_args = list(ros_args)
        self._clients: dict[str, Any] = {}

    def __enter__(self: Caller) -> Caller:
        self._context = Context()
        try:
            init(args=["flash_vstream_client", *self._ros_args], context=self._context)
            self._connect()
        except Exception as error:  # each runtime and middleware raises its own exceptions
            if ok(context=self._context):
                shutdown(context=self._context)
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ClientError(f"the ROS client failed to start: {reason}") from error
        return self

    def _connect(self) -> None:
        self.node = Node(f"flash_vstream_client_{os.getpid()}_{self._id[:8]}", context=self._context)
        self._cancel_publisher = self.node.create_publisher(String, f"{self.node_name}/cancel", 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        if ok(context=self._context):
            shutdown(context=self._context)

    def call(self, srv_type: Any, service: str, request: Any, wait_s: float, timeout_s: float = CALL_S) -> Any:
        """The reply of any service of the node.

        Waits up to `wait_s` seconds for the service to appear, and then `timeout_s` seconds for its reply. Raises
        NoService if it does not appear, and NoReply if it does not reply.
        """
        client = self._client(srv_type, service)
        wait_for(self.node, client, wait_s)
        return self._reply(client, request, timeout_s)

    def spin(self, duration_s: float) -> None:
        """Process incoming messages for `duration_s` seconds."""
        until = time.monotonic() + duration_s
        while (remaining := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=remaining)

    def _check_stop(self) -> None:
        """Raise Stopped if another thread has stopped the call."""
        if self.stop.is_set():
            raise Stopped("the call was cancelled")

    def _client(self, srv_type: Any, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self.node.create_client(srv_type, service)
        return self._clients[service]

    def _reply(self, client: Any, request: Any, timeout_s: float, cancels: str = "") -> Any:
        """The reply to a request, awaited for at most `timeout_s` seconds.

        If the caller stops waiting, the question or search with the id `cancels` is cancelled.
        """
        future = client.call_async(request)
        try:
            servers = self._servers(client)
            now = time.monotonic()
            end, last_offered = now + timeout_s, now
            while not future.done():
                self._check_stop()
                if now >= end:
                    raise NoReply(
                        f"no reply from {client.srv_name} within {timeout_s:.0f} s; {self._offered_by(client)}"
                    )
                if now - last_offered > GONE_S:
                    raise NoReply(f"no reply from {client.srv_name}: its node has ended; start it again")
                self._executor.spin_until_future_complete(future, timeout_sec=min(end - now, SERVERS_POLL_S))
                present, now = self._servers(client), time.monotonic()
                if not future.done() and servers and present and not servers & present:
                    # The request went to a node that had ended, and another node has replaced it.
                    servers, future = present, client.call_async(request)
                servers = servers or present  # the graph may report servers later than the client finds them
                last_offered = now if client.service_is_ready() else last_offered
        except BaseException:
            if cancels and ok(context=self._context):
                self._cancel_publisher.publish(String(data=cancels))
                self._executor.spin_until_future_complete(future, timeout_sec=CANCEL_S)
            raise
        return future.result()

    def _servers(self, client: Any) -> set[bytes]:
        """Ids of the servers of a client's service, from the DDS topic of their replies; empty without DDS."""
        return {bytes(info.endpoint_gid) for info in server_infos(self.node, client.srv_name)}

    def _offered_by(self, client: Any) -> str:
        """The end of a sentence about a missing reply: the nodes that offer the service."""
        until = time.monotonic() + NAMES_WAIT_S
        while True:
            servers = server_infos(self.node, client.srv_name)
            names = {f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in servers}
            known = sorted(name for name in names if UNKNOWN_NAME not in name)
            if known or not names or time.monotonic() > until:
                break
            time.sleep(READY_POLL_S)
        if not names:
            return "no node offers it any more"
        return f"offered by {', '.join(known) or 'a node of unknown name'}"


def wait_for(node: Node, client: Any, wait_s: float) -> None:
    """Wait for a service to appear. Raises NoService."""
    ready = client.wait_for_service(timeout_sec=wait_s)
    if reason := why_unanswerable(node, client.srv_name):
        raise NoService(reason)
    if not ready:
        raise NoService(no_node("offers", client.srv_name, wait_s))


def no_node(verb: str, name: str, wait_s: float) -> str:
    """The sentence about a node that does not appear."""
    return (
        f"no node {verb} {name} after {wait_s:.0f} s; start one with `flash-vstream-ros node`"
        " and check that ROS_DOMAIN_ID is the same on both sides, and that both sides or neither use rmw_zenoh_cpp"
    )
