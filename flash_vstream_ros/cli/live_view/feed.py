"""Follows a node in a thread: posts its status, the entries of its memory and the newest images to the board."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from flash_vstream_ros.client import EVENTS_DEPTH, AskClient, ClientError
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.ros.interfaces import Event, MemoryStatus
from flash_vstream_ros.ros.stamps import seconds

from ..agents.bounds import bounded_text
from .board import Board
from .events import (
    History,
    Images,
    error_sentence,
    event_fields,
    memory_fields,
    newest_fields,
    status_fields,
    watches_fields,
)

SPIN_S = 0.1
FIND_S = 0.5  # longest wait for the node's service in one round
NODE_S = 2.0  # between two checks whether the node exists
NEWEST_S = 1.0  # least time between two listings of the newest slots
MEMORY_S = 3.0  # between two listings of the memory that changed
UNCHANGED_S = 6.0  # between two listings of the memory; what was forgotten disappears within this time
WATCHES_S = 2.0  # between two listings of the watches
MAX_EVENTS = 50  # of watches
NEWEST_INTERVAL_S = 10.0  # [s of message time] slots that are listed for the newest images


class Feed:
    """A thread that owns a connected client. Lists the memory only while somebody watches.

    Images come from the memory, not from the cameras, so that faces are covered here if they are covered there, and
    what was forgotten disappears.
    """

    def __init__(self, client: AskClient, node_name: str, board: Board) -> None:
        self._client = client
        self._board = board
        status = client.node.create_subscription(MemoryStatus, f"{node_name}/status", self._on_status, 10)
        self._topic = status.topic_name
        client.node.create_subscription(Event, f"{node_name}/events", self._on_event, EVENTS_DEPTH)
        self._events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)  # of watches, newest first
        self._log = ThrottledLog(lambda sentence: print(sentence, file=sys.stderr, flush=True))
        self._thread = threading.Thread(target=self._run, name="flash-vstream-feed", daemon=True)
        self._history = History()
        self._status: Any = None  # the newest
        self._entries: tuple[Any, ...] = ()  # of the memory, as listed last
        self._images, self._newest = Images(), Images()  # of the memory's entries, and of the newest slots
        self._memory_version: tuple[int, ...] | None = None  # of the memory when it was listed
        self._newest_version: tuple[int, ...] | None = None  # when its newest slots were listed
        self._memory_at = self._newest_at = self._node_at = self._watches_at = 0.0  # time.monotonic() of the last time

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._client.stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._client.stop.is_set():
            self._step()

    def _step(self) -> None:
        try:
            self._client.spin(SPIN_S)
            self._check_node()
            if self._board.watched and self._status is not None:
                self._list_newest()
                self._list_memory()
                self._list_watches()
            elif self._entries or self._newest.jpegs:
                self._drop_memory()
        except ClientError as error:
            self._post_problem(str(error))
        except Exception as error:  # a message that cannot be converted must not end the feed
            self._log.report("feed", f"the feed of the node failed: {type(error).__name__}: {error}")

    def _on_status(self, status: Any) -> None:
        fields = status_fields(status)
        point = self._history.add(fields)
        self._status = status
        points = list(self._history.points)

        def post(board: Board) -> None:
            board.post("status", {**fields, "point": point})
            board.keep("history", {"points": points})

        self._post(post)

    def _on_event(self, event: Any) -> None:
        self._events.appendleft(event_fields(event))
        self._watches_at = 0.0

    def _check_node(self) -> None:
        """Report whether a node publishes its status."""
        now = time.monotonic()
        if now - self._node_at < NODE_S:
            return
        self._node_at = now
        if self._client.node.count_publishers(self._topic):
            self._post_problem("")
        else:
            self._status = None
            self._post_problem(f"no node publishes {self._topic}: start one with `flash-vstream-ros node`")

    def _list_newest(self) -> None:
        """Post the newest image of each camera, if there are new slots."""
        now, version = time.monotonic(), _version(self._status)
        if version == self._newest_version or now - self._newest_at < NEWEST_S:
            return
        self._newest_version, self._newest_at = version, now
        since_s = max(seconds(self._status.covered_until) - NEWEST_INTERVAL_S, 0.0)
        self._newest = Images(self._newest)
        fields = newest_fields([*self._entries, *self._list(since_s)], self._newest)
        self._post_images("newest", fields)

    def _list_memory(self) -> None:
        """Post the entries of the memory, if it may have changed."""
        now, version = time.monotonic(), _version(self._status)
        if now - self._memory_at < (UNCHANGED_S if version == self._memory_version else MEMORY_S):
            return
        self._memory_version, self._memory_at = version, now
        self._entries = self._list()
        self._images = Images(self._images)
        self._post_images("memory", memory_fields(self._entries, self._images))
        self._newest_version = None  # an image that was forgotten must not stay the newest one

    def _list_watches(self) -> None:
        """Post the watches with their newest probabilities, and the last events."""
        now = time.monotonic()
        if now - self._watches_at < WATCHES_S:
            return
        self._watches_at = now
        reply = self._client.list_watches(FIND_S)
        if not reply.error_code:  # otherwise no model is loaded
            fields = watches_fields(reply, self._events)
            self._post(lambda board: board.post("watches", fields))

    def _post_images(self, kind: str, fields: dict[str, Any]) -> None:
        jpegs = {**self._images.jpegs, **self._newest.jpegs}

        def post(board: Board) -> None:
            board.images = jpegs
            board.post(kind, fields)

        self._post(post)

    def _drop_memory(self) -> None:
        """Keep no images while nobody watches: they might be forgotten meanwhile."""
        self._entries, self._images, self._newest = (), Images(), Images()
        self._memory_at, self._newest_version = 0.0, None

        def drop(board: Board) -> None:
            if not board.watched:
                board.images = {}
                board.remove("memory", "newest")

        self._post(drop)

    def _list(self, since_s: float = 0.0) -> tuple[Any, ...]:
        """Entries of the memory with thumbnails. Raises ClientError."""
        reply = self._client.list_memory(FIND_S, since_s=since_s, thumbnails=True)
        if reply.error_code:
            raise ClientError(error_sentence(reply))
        return tuple(reply.entries)

    def _post_problem(self, sentence: str) -> None:
        self._post(lambda board: board.post("node", {"problem": bounded_text(sentence)}))

    def _post(self, post: Callable[[Board], object]) -> None:
        """Run `post` on the thread of the board."""
        loop = self._board.loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(post, self._board)


def _version(status: Any) -> tuple[int, ...]:
    """Differs after most changes of the memory."""
    stamps = (status.covered_since, status.covered_until)
    return (status.slots, status.memory_entries, *(part for stamp in stamps for part in (stamp.sec, stamp.nanosec)))
