"""A client of the node's services, for the command line and tests. One request at a time. Needs no torch."""

from __future__ import annotations

import itertools
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from flash_vstream_ros.ros import Context, Node, QoSProfile, SingleThreadedExecutor, init, ok, shutdown
from flash_vstream_ros.ros.interfaces import (
    AddWatch,
    AnswerPiece,
    AskScene,
    CompressedImage,
    Forget,
    ListMemory,
    ListWatches,
    MemoryStatus,
    Point,
    RemoveWatch,
    Report,
    Search,
    String,
    Watch,
    interface,
)
from flash_vstream_ros.ros.service_peers import server_infos, why_unanswerable
from flash_vstream_ros.ros.stamps import duration_message, seconds, stamp_at

# Longest wait for a reply after its deadline; then it is lost: the node hangs, or the middlewares are incompatible.
GRACE_S = 30.0
LONGEST_DEADLINE_S = 3600.0  # the upper limit of the parameter question.max_deadline_s
READY_POLL_S = 0.2
SERVERS_POLL_S = 0.5  # between two checks for Ctrl-C and for a node that has ended
CALL_S = 90.0  # longest wait for a reply without a deadline; longer than the node waits for its worker
# On DDS, each reply goes to all clients of a service. In a short queue, replies to others would overwrite ours.
CALL_QOS = QoSProfile(depth=1000)
PARAMETERS_WAIT_S = 3.0
CANCEL_S = 2.0  # longest wait for the reply to a cancelled question
NAMES_WAIT_S = 2.0  # longest wait for the name of a server's node, which is discovered after its endpoints
UNKNOWN_NAME = "_UNKNOWN_"  # part of rmw's placeholder for a node name or namespace that is not discovered yet
EVENTS_DEPTH = 100  # of ~/events, as the node publishes them
GONE_S = 10.0  # if the service has no server for this long, its node has ended
STATUS_S = 70.0  # longest wait for a status; longer than the longest period of the parameter status.period_s


class ClientError(RuntimeError):
    """A request could not be sent or got no reply; the message says what to do."""


class NoService(ClientError):
    """No node offers the service, or its middleware cannot answer this process."""


class NoReply(ClientError):
    """No reply arrived."""


class Stopped(ClientError):
    """Another thread stopped the call."""


class AskClient:
    """Asks a node through its service. A context manager with its own ROS context.

    `node_name` is the node that offers `service`; the client also uses its private topics and services.

    Entering it raises ClientError if ROS does not start or refuses an argument or a name.
    """

    def __init__(self, service: str, ros_args: Sequence[str] = (), node_name: str = "flash_vstream") -> None:
        self.on_piece: Callable[[str], None] | None = None  # gets the pieces of this client's own answers
        # Gets how many archived key frames are encoded for an answer, and of how many.
        self.on_key_frames: Callable[[int, int], None] | None = None
        self.stop = threading.Event()  # if another thread sets it, the running call is cancelled and raises Stopped
        self._id = uuid.uuid4().hex  # prefix of the ids of its questions
        self._numbers = itertools.count()  # the other part of these ids
        self._service_name = service
        self._ros_args = list(ros_args)
        self.node_name = node_name
        self._clients: dict[str, Any] = {}
        self._default_deadline_s: float | None = None

    def __enter__(self) -> AskClient:
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
        self.service = self.node.create_client(AskScene, self._service_name, qos_profile=CALL_QOS)
        self._cancel_publisher = self.node.create_publisher(String, f"{self.node_name}/cancel", 10)
        self.node.create_subscription(AnswerPiece, f"{self.node_name}/answer_stream", self._on_stream, 100)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
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
        near: tuple[float, float] = (0.0, 0.0),
        radius: float = 0.0,
        deadline_s: float = 0.0,
        max_new_tokens: int = 0,
        stream: bool = False,
    ) -> AskScene.Request:
        """A question with a new id. Stamps and deadline in seconds, `near` (x, y) and `radius` in metres.

        0: no limit for a stamp or the radius; the node's default for the deadline and the tokens.
        """
        return AskScene.Request(
            question=question,
            question_id=f"{self._id}:{next(self._numbers)}",
            **_scope(cameras, since_s, until_s, near, radius),
            deadline=duration_message(deadline_s),
            max_new_tokens=max_new_tokens,
            stream=stream,
        )

    def ask_when_ready(self, request: AskScene.Request, wait_s: float) -> AskScene.Response:
        """Ask, and wait up to `wait_s` seconds for a node to appear and load its model.

        Raises NoService if no node appears, and NoReply if the node does not reply.
        """
        return self._when_ready(self.service, request, request.question_id, wait_s)

    def ask(self, request: AskScene.Request) -> AskScene.Response:
        """Ask once, and wait for the reply until the question's deadline.

        If the caller stops waiting, for example by Ctrl-C, the question is cancelled. Raises NoReply.
        """
        return self._reply_in_time(self.service, request, request.question_id)

    def search_when_ready(
        self,
        text: str,
        wait_s: float,
        *,
        cameras: Sequence[str] = (),
        since_s: float = 0.0,
        until_s: float = 0.0,
        near: tuple[float, float] = (0.0, 0.0),
        radius: float = 0.0,
        archive: bool = False,
        max_moments: int = 0,
        image: bytes = b"",
    ) -> Search.Response:
        """Search for the moments that show what `text` describes, or that look like `image`, a JPEG.

        `archive` searches archived key frames instead of the memory.

        Waits, cancels and raises as `ask_when_ready`.
        """
        request = Search.Request(
            text=text,
            search_id=f"{self._id}:{next(self._numbers)}",
            **_scope(cameras, since_s, until_s, near, radius),
            archive=archive,
            max_moments=max_moments,
            image=CompressedImage(format="jpeg", data=image),
        )
        return self._when_ready(self._client(Search, f"{self.node_name}/search"), request, request.search_id, wait_s)

    def _when_ready(self, client: Any, request: Any, request_id: str, wait_s: float) -> Any:
        until = time.monotonic() + wait_s
        _wait_for(self.node, client, wait_s)
        while True:
            reply = self._reply_in_time(client, request, request_id)
            loading = reply.error_code == reply.NOT_READY and "loading" in reply.error_msg
            if not loading or time.monotonic() > until:
                return reply
            time.sleep(READY_POLL_S)

    def _reply_in_time(self, client: Any, request: Any, request_id: str) -> Any:
        """The reply to a request with a deadline. If the caller stops waiting, the request is cancelled."""
        deadline_s = seconds(request.deadline) or self._nodes_deadline_s()
        return self._reply(client, request, deadline_s + GRACE_S, cancels=request_id)

    def list_memory(
        self,
        wait_s: float,
        cameras: Sequence[str] = (),
        since_s: float = 0.0,
        until_s: float = 0.0,
        near: tuple[float, float] = (0.0, 0.0),
        radius: float = 0.0,
        *,
        thumbnails: bool = False,
    ) -> ListMemory.Response:
        """The memory's entries. Raises NoService and NoReply."""
        request = ListMemory.Request(**_scope(cameras, since_s, until_s, near, radius), thumbnails=thumbnails)
        return self.call(ListMemory, f"{self.node_name}/list_memory", request, wait_s)

    def forget(
        self,
        wait_s: float,
        cameras: Sequence[str],
        since_s: float,
        until_s: float,
        near: tuple[float, float] = (0.0, 0.0),
        radius: float = 0.0,
    ) -> Forget.Response:
        """Forget what was seen by cameras (none: all) between two stamps [s]. Raises NoService and NoReply.

        With a radius, only what was recorded in the circle around `near` [m].
        """
        request = Forget.Request(**_scope(cameras, since_s, until_s, near, radius))
        return self.call(Forget, f"{self.node_name}/forget", request, wait_s)

    def report(self, wait_s: float, since_s: float, until_s: float, *, pictures: bool) -> Report.Response:
        """The report of what happened between two stamps [s]; 0: no limit. Raises NoService and NoReply."""
        request = Report.Request(since=stamp_at(since_s), until=stamp_at(until_s), pictures=pictures)
        # The node asks its model about each part without a summary, one after the other.
        return self.call(Report, f"{self.node_name}/report", request, wait_s, LONGEST_DEADLINE_S)

    def add_watch(self, wait_s: float, watch: Watch) -> AddWatch.Response:
        """Add a watch. Raises NoService and NoReply, as the two methods below."""
        return self.call(AddWatch, f"{self.node_name}/add_watch", AddWatch.Request(watch=watch), wait_s)

    def remove_watch(self, wait_s: float, watch_id: str) -> RemoveWatch.Response:
        return self.call(RemoveWatch, f"{self.node_name}/remove_watch", RemoveWatch.Request(watch_id=watch_id), wait_s)

    def list_watches(self, wait_s: float) -> ListWatches.Response:
        return self.call(ListWatches, f"{self.node_name}/list_watches", ListWatches.Request(), wait_s)

    def next_status(self, wait_s: float) -> MemoryStatus:
        """The next status that the node publishes. Raises NoService if no node publishes one, and NoReply."""
        topic, messages = f"{self.node_name}/status", list[MemoryStatus]()
        subscription = self.node.create_subscription(MemoryStatus, topic, messages.append, 1)
        try:
            start = time.monotonic()
            while not messages:
                waited_s = time.monotonic() - start
                self._check_stop()
                if waited_s > wait_s and not self.node.count_publishers(subscription.topic_name):
                    raise NoService(_no_node("publishes", subscription.topic_name, wait_s))
                if waited_s > wait_s + STATUS_S:
                    raise NoReply(f"no status on {subscription.topic_name} within {waited_s:.0f} s")
                self._executor.spin_once(timeout_sec=READY_POLL_S)
        finally:
            self.node.destroy_subscription(subscription)
        return messages[-1]

    def _check_stop(self) -> None:
        """Raise Stopped if another thread has stopped the call."""
        if self.stop.is_set():
            raise Stopped("the call was cancelled")

    def newest_stamp_s(self, wait_s: float) -> float | None:
        """Stamp of the newest frame in the memory [s]; None if it is empty. Raises ClientError."""
        reply = self.list_memory(wait_s)
        if reply.error_code:
            raise ClientError(f"error {reply.error_code}: {reply.error_msg}")
        return max((seconds(entry.until) for entry in reply.entries), default=None)

    def call(self, srv_type: Any, service: str, request: Any, wait_s: float, timeout_s: float = CALL_S) -> Any:
        """The reply of any service of the node.

        Waits up to `wait_s` seconds for the service to appear, and then `timeout_s` seconds for its reply. Raises
        NoService if it does not appear, and NoReply if it does not reply.
        """
        client = self._client(srv_type, service)
        _wait_for(self.node, client, wait_s)
        return self._reply(client, request, timeout_s)

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

    def _nodes_deadline_s(self) -> float:
        """The node's parameter question.deadline_s [s]; the upper limit of deadlines if the node does not reply."""
        if self._default_deadline_s is None:
            srv_type = interface("rcl_interfaces/srv/GetParameters")
            client = self._client(srv_type, f"{self.node_name}/get_parameters")
            if client.wait_for_service(timeout_sec=PARAMETERS_WAIT_S):
                values = self._reply(client, srv_type.Request(names=["question.deadline_s"]), GRACE_S).values
                if values and values[0].double_value > 0:
                    self._default_deadline_s = float(values[0].double_value)
        return self._default_deadline_s or LONGEST_DEADLINE_S  # asked again if there was no reply

    def spin(self, duration_s: float) -> None:
        """Process incoming messages for `duration_s` seconds."""
        until = time.monotonic() + duration_s
        while (remaining := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=remaining)

    def _on_stream(self, piece: AnswerPiece) -> None:
        if not piece.question_id.startswith(self._id):
            return
        if piece.key_frames and self.on_key_frames:
            self.on_key_frames(piece.key_frames_done, piece.key_frames)
        elif not piece.key_frames and self.on_piece:
            self.on_piece(piece.text)


def _scope(
    cameras: Sequence[str], since_s: float, until_s: float, near: tuple[float, float], radius: float
) -> dict[str, Any]:
    """The fields of a request that limit it."""
    x, y = near
    return {
        "cameras": list(cameras),
        "since": stamp_at(since_s),
        "until": stamp_at(until_s),
        "near": Point(x=x, y=y),
        "radius": radius,
    }


def _wait_for(node: Node, client: Any, wait_s: float) -> None:
    ready = client.wait_for_service(timeout_sec=wait_s)
    if reason := why_unanswerable(node, client.srv_name):
        raise NoService(reason)
    if not ready:
        raise NoService(_no_node("offers", client.srv_name, wait_s))


def _no_node(verb: str, name: str, wait_s: float) -> str:
    return (
        f"no node {verb} {name} after {wait_s:.0f} s; start one with `flash-vstream-ros node`"
        " and check that ROS_DOMAIN_ID is the same on both sides, and that both sides or neither use rmw_zenoh_cpp"
    )
