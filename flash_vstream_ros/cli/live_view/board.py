"""The newest event of each kind, for every client that watches. A slow client misses events, and costs no memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

MAX_VIEWERS = 64


class Viewer:
    """One client that watches: the newest event of each kind that it has not got yet."""

    def __init__(self, events: Mapping[str, bytes]) -> None:
        self._waiting = dict(events)
        self._wake = asyncio.Event()
        self._closed = False
        if events:
            self._wake.set()

    def put(self, kind: str, line: bytes) -> None:
        """Replace the waiting event of this kind."""
        self._waiting[kind] = line
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    async def lines(self) -> bytes:
        """Wait for events, and take them: a line of JSON each. Empty: the server ends."""
        await self._wake.wait()
        if self._closed:
            return b""
        taken = b"".join(self._waiting.values())
        self._waiting.clear()
        self._wake.clear()
        return taken


class Board:
    """Events and images for all viewers. Owned by the event loop's thread; only `watched` may be read by others."""

    def __init__(self) -> None:
        self.images: Mapping[str, bytes] = {}  # JPEGs of the events by their ids
        self._events: dict[str, bytes] = {}
        self._viewers: set[Viewer] = set()
        self.loop: asyncio.AbstractEventLoop | None = None  # runs the board once the server has started

    @property
    def watched(self) -> bool:
        """Returns True if a client watches."""
        return bool(self._viewers)

    @property
    def full(self) -> bool:
        """Returns True if no further client can watch."""
        return len(self._viewers) >= MAX_VIEWERS

    @contextmanager
    def viewer(self) -> Iterator[Viewer]:
        """A new viewer, which gets the newest event of each kind first."""
        viewer = Viewer(self._events)
        self._viewers.add(viewer)
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)

    def post(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Replace the event of this kind, and send it to all viewers."""
        self.keep(kind, fields)
        for viewer in self._viewers:
            viewer.put(kind, self._events[kind])

    def keep(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Replace the event of this kind for viewers that come later."""
        self._events[kind] = json_line({"kind": kind, **fields})

    def remove(self, *kinds: str) -> None:
        for kind in kinds:
            self._events.pop(kind, None)

    def close(self) -> None:
        """End the streams of all viewers."""
        for viewer in self._viewers:
            viewer.close()


def json_line(fields: Mapping[str, Any]) -> bytes:
    """`fields` as one line of JSON. Raises ValueError for numbers that JSON lacks."""
    return json.dumps(fields, ensure_ascii=False, allow_nan=False).encode() + b"\n"
