"""The server of `flash-vstream-ros web` in a thread, and a node whose every text is hostile."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from conftest import wait_until
from robot import START_S

from flash_vstream_ros.cli.agents.node_thread import NodeThread
from flash_vstream_ros.cli.http_server import listen
from flash_vstream_ros.cli.live_view.app import WebServer
from flash_vstream_ros.cli.live_view.board import Board
from flash_vstream_ros.cli.live_view.feed import Feed
from flash_vstream_ros.cli.live_view.scene_requests import SceneRequests
from flash_vstream_ros.client import AskClient
from flash_vstream_ros.ros import Context, Node, SingleThreadedExecutor, init, shutdown
from flash_vstream_ros.ros.interfaces import (
    AnswerPiece,
    AskScene,
    CompressedImage,
    Event,
    Header,
    ListMemory,
    ListWatches,
    MemoryEntry,
    MemoryStatus,
    Search,
    Watch,
    WatchStatus,
)
from flash_vstream_ros.ros.stamps import duration_message, stamp_at

HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=2</script>"
ENTRIES = 20  # of the hostile node's memory, all with different images
START, LENGTH = 1000.0, 600.0  # of the hostile node's memory [s]
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Served:
    """A running server."""

    port: int
    board: Board

    def connect(
        self, path: str, headers: Mapping[str, str] | None = None, body: Any = None, method: str = ""
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """A request whose response is not read yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_S)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method or ("GET" if body is None else "POST"), path, data, dict(headers or {}))
        return connection, connection.getresponse()

    def status(self, path: str, headers: Mapping[str, str] | None = None, body: Any = None, method: str = "") -> int:
        connection, response = self.connect(path, headers, body, method)
        with closing(connection):
            return response.status

    def get(self, path: str) -> http.client.HTTPResponse:
        """A response that was read; `body` has its content."""
        connection, response = self.connect(path)
        with closing(connection):
            response.body = response.read()  # type: ignore[attr-defined]
            return response

    def post(self, path: str, body: Any) -> list[dict[str, Any]]:
        """The lines of JSON of a reply."""
        connection, response = self.connect(path, JSON, body)
        with closing(connection):
            return [json.loads(line) for line in response.read().splitlines()]

    @contextmanager
    def events(self) -> Iterator[Iterator[dict[str, Any]]]:
        connection, response = self.connect("/api/events")
        with closing(connection):
            assert response.status == 200
            yield (json.loads(line) for line in response)


def first(events: Iterator[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """The first event with these fields."""
    return next(event for event in events if wanted.items() <= event.items())


@contextmanager
def served(namespace: str, token: str = "", names: Sequence[str] = ()) -> Iterator[Served]:
    """Serve the page of the node in `namespace`."""
    node_name = f"{namespace}/flash_vstream"
    board = Board()
    with (
        AskClient(f"{namespace}/ask_scene", node_name=node_name) as asking,
        AskClient(f"{namespace}/ask_scene", node_name=node_name) as watching,
        NodeThread(asking) as node,
        listen("127.0.0.1", 0) as listener,
    ):
        feed, requests = Feed(watching, node_name, board), SceneRequests(node, START_S)
        server = WebServer(board, feed, requests, listener, names, token)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        port = listener.getsockname()[1]
        thread.start()
        try:
            assert wait_until(lambda: server.started)
            yield Served(port, board)
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def hostile_node(namespace: str) -> Iterator[None]:
    """A node that offers what the page needs, with markup in the names of cameras, the answer and every sentence."""
    context = Context()
    init(args=["hostile"], context=context)
    node = Node("flash_vstream", context=context, namespace=namespace)
    node.create_service(AskScene, f"{namespace}/ask_scene", lambda request, reply: _answer(request, reply, pieces))
    node.create_service(ListMemory, "~/list_memory", _list)
    node.create_service(Search, "~/search", _search)
    node.create_service(ListWatches, "~/list_watches", _list_watches)
    pieces = node.create_publisher(AnswerPiece, "~/answer_stream", 100)
    status = node.create_publisher(MemoryStatus, "~/status", 10)
    events = node.create_publisher(Event, "~/events", 100)
    node.create_timer(0.2, lambda: status.publish(_status(node.get_clock().now().nanoseconds)))
    node.create_timer(1.0, lambda: events.publish(_event()))
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        executor.shutdown()
        node.destroy_node()
        shutdown(context=context)


def _entries() -> list[Any]:
    colours = np.random.default_rng(0).integers(0, 255, (ENTRIES, 3))
    found = []
    for index, colour in enumerate(colours):
        image = np.full((48, 64, 3), colour, np.uint8)
        at = START + index * LENGTH / len(colours)
        header = Header(stamp=stamp_at(at), frame_id=HOSTILE)
        data = cv2.imencode(".jpg", image)[1].tobytes()
        found.append(
            MemoryEntry(
                kind=MemoryEntry.SYNOPSIS if index % 4 else MemoryEntry.KEY_FRAME,
                camera=f"{HOSTILE}{index % 2}",
                since=stamp_at(at),
                until=stamp_at(at + 20),
                weight=float(1 + index),
                pose_known=True,
                map_id=HOSTILE,
                thumbnail=CompressedImage(header=header, format="jpeg", data=data),
            )
        )
    return found


def _evidence() -> list[Any]:
    found = _entries()[4:7]
    for place, entry in enumerate(found):
        entry.relevance = 0.5 / (1 + place)
    return found


def _status(now_ns: int) -> Any:
    return MemoryStatus(
        header=Header(stamp=stamp_at(now_ns * 1e-9)),
        state=MemoryStatus.READY,
        model=HOSTILE,
        cameras=[f"{HOSTILE}0", f"{HOSTILE}1"],
        frames_received=100,
        frames_dropped=3,
        drop_reasons=[HOSTILE],
        drop_counts=[3],
        newest_frame=stamp_at(START + LENGTH),
        memory_entries=ENTRIES,
        memory_capacity=40,
        covered_since=stamp_at(START),
        covered_until=stamp_at(START + LENGTH),
        last_error=HOSTILE,
    )


def _list(request: Any, reply: Any) -> Any:
    reply.entries = _entries()
    return reply


def _list_watches(request: Any, reply: Any) -> Any:
    watch = Watch(watch_id=HOSTILE, text=HOSTILE, cameras=[HOSTILE], on=0.7)
    reply.watches = [WatchStatus(watch=watch, active=True, checks=3, probability=0.9, problem=HOSTILE)]
    return reply


def _event() -> Any:
    header = Header(stamp=stamp_at(START + LENGTH))
    return Event(header=header, kind=Event.BEGAN, text=HOSTILE, camera=HOSTILE, probability=0.9)


def _search(request: Any, reply: Any) -> Any:
    reply.moments, reply.adjustments, reply.duration = _evidence(), [HOSTILE], duration_message(0.1)
    return reply


def _answer(request: Any, reply: Any, pieces: Any) -> Any:
    if request.question == "fail":
        reply.error_code, reply.error_msg = AskScene.Response.INVALID_REQUEST, HOSTILE
        return reply
    reply.answer = f"You asked {request.question}"
    for index, word in enumerate(reply.answer.split(" ")):
        pieces.publish(AnswerPiece(question_id=request.question_id, index=index, text=f"{word} "))
    reply.evidence, reply.adjustments = _evidence(), [HOSTILE]
    reply.confidence, reply.calibrated, reply.duration = 0.75, True, duration_message(0.2)
    return reply
