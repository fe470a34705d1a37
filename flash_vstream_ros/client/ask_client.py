"""Asks a node: questions, searches, its memory, reports and watches."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flash_vstream_ros.ros import QoSProfile
from flash_vstream_ros.ros.interfaces import (
    AddWatch,
    AnswerPiece,
    AskScene,
    CompressedImage,
    Forget,
    ListMemory,
    ListWatches,
    MemoryStatus,
    RemoveWatch,
    Report,
    Search,
    Watch,
    interface,
)
from flash_vstream_ros.ros.stamps import duration_message, seconds, stamp_at

from .best_place import MapName
from .errors import ClientError, NoReply, NoService
from .limits import Limits, request_fields
from .service_caller import READY_POLL_S, ServiceCaller, no_node, wait_for

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Longest wait for a reply after its deadline; then it is lost: the node hangs, or the middlewares are incompatible.
GRACE_S = 30.0
LONGEST_DEADLINE_S = 3600.0  # the upper limit of the parameter question.max_deadline_s
# On DDS, each reply goes to all clients of a service. In a short queue, replies to others would overwrite ours.
CALL_QOS = QoSProfile(depth=1000)
PARAMETERS_WAIT_S = 3.0
STRING = 4  # rcl_interfaces/ParameterType.PARAMETER_STRING
EVENTS_DEPTH = 100  # of ~/events, as the node publishes them
STATUS_S = 70.0  # longest wait for a status; longer than the longest period of the parameter status.period_s


class AskClient(ServiceCaller):
    """Asks a node through its service. A context manager with its own ROS context.

    `node_name` is the node that offers `service`; the client also uses its private topics and services.
    """

    def __init__(self, service: str, ros_args: Sequence[str] = (), node_name: str = "flash_vstream") -> None:
        super().__init__(ros_args, node_name)
        self.on_piece: Callable[[str], None] | None = None  # gets the pieces of this client's own answers
        # Gets how many archived key frames are encoded for an answer, and of how many.
        self.on_key_frames: Callable[[int, int], None] | None = None
        self._numbers = itertools.count()  # a part of the ids of its questions
        self._service_name = service
        self._default_deadline_s: float | None = None

    def _connect(self) -> None:
        super()._connect()
        self.service = self.node.create_client(AskScene, self._service_name, qos_profile=CALL_QOS)
        self.node.create_subscription(AnswerPiece, f"{self.node_name}/answer_stream", self._on_stream, 100)

    def request(
        self,
        question: str,
        *,
        deadline_s: float = 0.0,
        max_new_tokens: int = 0,
        stream: bool = False,
        **limits: Unpack[Limits],
    ) -> AskScene.Request:
        """A question with a new id. 0: the node's default for the deadline [s] and the tokens."""
        return AskScene.Request(
            question=question,
            question_id=f"{self._id}:{next(self._numbers)}",
            **request_fields(**limits),
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
        archive: bool = False,
        max_moments: int = 0,
        image: bytes = b"",
        **limits: Unpack[Limits],
    ) -> Search.Response:
        """Search for the moments that show what `text` describes, or that look like `image`, a JPEG.

        `archive` searches archived key frames instead of the memory.

        Waits, cancels and raises as `ask_when_ready`.
        """
        request = Search.Request(
            text=text,
            search_id=f"{self._id}:{next(self._numbers)}",
            **request_fields(**limits),
            archive=archive,
            max_moments=max_moments,
            image=CompressedImage(format="jpeg", data=image),
        )
        return self._when_ready(self._client(Search, f"{self.node_name}/search"), request, request.search_id, wait_s)

    def _when_ready(self, client: Any, request: Any, request_id: str, wait_s: float) -> Any:
        until = time.monotonic() + wait_s
        wait_for(self.node, client, wait_s)
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

    def list_memory(self, wait_s: float, *, thumbnails: bool = False, **limits: Unpack[Limits]) -> ListMemory.Response:
        """The memory's entries. Raises NoService and NoReply."""
        request = ListMemory.Request(**request_fields(**limits), thumbnails=thumbnails)
        return self.call(ListMemory, f"{self.node_name}/list_memory", request, wait_s)

    def forget(self, wait_s: float, **limits: Unpack[Limits]) -> Forget.Response:
        """Forget what was seen within the limits; the node wants at least one. Raises NoService and NoReply."""
        request = Forget.Request(**request_fields(**limits))
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
                    raise NoService(no_node("publishes", subscription.topic_name, wait_s))
                if waited_s > wait_s + STATUS_S:
                    raise NoReply(f"no status on {subscription.topic_name} within {waited_s:.0f} s")
                self._executor.spin_once(timeout_sec=READY_POLL_S)
        finally:
            self.node.destroy_subscription(subscription)
        return messages[-1]

    def newest_stamp_s(self, wait_s: float) -> float | None:
        """Stamp of the newest frame in the memory [s]; None if it is empty. Raises ClientError."""
        reply = self.list_memory(wait_s)
        if reply.error_code:
            raise ClientError(f"error {reply.error_code}: {reply.error_msg}")
        return max((seconds(entry.until) for entry in reply.entries), default=None)

    def present_map(self, wait_s: float) -> MapName:
        """The map that the robot is localised in: the node's pose.fixed_frame and pose.map_id. Raises ClientError."""
        names = ["pose.fixed_frame", "pose.map_id"]
        srv_type = interface("rcl_interfaces/srv/GetParameters")
        service = f"{self.node_name}/get_parameters"
        values = self.call(srv_type, service, srv_type.Request(names=names), wait_s).values
        if [value.type for value in values] != [STRING] * len(names):
            raise NoReply(
                f"{service} does not tell {' and '.join(names)}, so the robot's present map is unknown; the node must "
                "have the version of this client"
            )
        return MapName(*(str(value.string_value) for value in values))

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

    def _on_stream(self, piece: AnswerPiece) -> None:
        if not piece.question_id.startswith(self._id):
            return
        if piece.key_frames and self.on_key_frames:
            self.on_key_frames(piece.key_frames_done, piece.key_frames)
        elif not piece.key_frames and self.on_piece:
            self.on_piece(piece.text)
