"""Questions and searches of the page: reads a request, runs it in the node's thread, and streams the answer."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from flash_vstream_ros.client import AskClient, ClientError, Limits

from ..agents.bounds import MAX_TEXT_CHARS
from ..agents.node_thread import NodeThread
from ..argument_types import MAX_MOMENTS, question
from ..request_limits import limits_of
from ..times import BadTime, time_point
from .board import json_line
from .events import MAX_CAMERAS, answer_fields, error_sentence, moments_fields

FOUND = 8  # moments of a search


class BadRequest(ValueError):
    """A request that is malformed; the message says what is expected."""


@dataclass(frozen=True)
class SceneRequest:
    """A question or the text of a search, and its limits as the user wrote them; empty: none."""

    text: str
    cameras: tuple[str, ...] = ()
    since: str = ""
    until: str = ""

    @classmethod
    def of(cls, body: bytes) -> SceneRequest:
        """Read JSON with the fields of this class. Raises BadRequest."""
        try:
            fields = json.loads(body)
        except (ValueError, RecursionError):
            raise BadRequest("the body is no JSON") from None
        if not isinstance(fields, dict) or not fields.keys() <= {"text", "cameras", "since", "until"}:
            raise BadRequest("the body must be an object with text, cameras, since and until")
        words = [fields.get(name, "") for name in ("text", "since", "until")]
        cameras = fields.get("cameras", [])
        if not isinstance(cameras, list) or len(cameras) > MAX_CAMERAS:
            raise BadRequest(f"cameras must be a list of at most {MAX_CAMERAS} names")
        if not all(isinstance(word, str) for word in (*words, *cameras)):
            raise BadRequest("text, since, until and the names of cameras must be strings")
        try:
            text = question(words[0])
            for word in cameras:
                question(word)
            for word in words[1:]:
                time_point(word or "0")
        except argparse.ArgumentTypeError as error:
            raise BadRequest(str(error)) from error
        return cls(text, tuple(cameras), words[1], words[2])

    def limits(self, client: AskClient, wait_s: float) -> Limits:
        """The limits of the request to the node. Raises BadTime and ClientError."""
        return limits_of(client, wait_s, self.cameras, self.since, self.until)


class Progress:
    """What is known of an answer and not sent yet. `add_text` and `set_key_frames` may be called by any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._text = ""
        self._sent_chars = 0
        self._key_frames: list[int] = []
        self._ended = False

    def add_text(self, text: str) -> None:
        self._loop.call_soon_threadsafe(self._update, text, None)

    def set_key_frames(self, done: int, total: int) -> None:
        self._loop.call_soon_threadsafe(self._update, "", [done, total])

    def end(self, _: object = None) -> None:
        self._ended = True
        self._wake.set()

    def _update(self, text: str, key_frames: list[int] | None) -> None:
        room = MAX_TEXT_CHARS - self._sent_chars - len(self._text)
        self._text += text[: max(room, 0)]
        self._key_frames = key_frames or self._key_frames
        self._wake.set()

    async def lines(self) -> AsyncIterator[bytes]:
        """Lines of JSON until the end; a slow reader gets several pieces as one."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._key_frames:
                fields, self._key_frames = {"key_frames": self._key_frames}, []
                yield json_line(fields)
            if self._text:
                text, self._text = self._text, ""
                self._sent_chars += len(text)
                yield json_line({"text": text})
            if self._ended and not self._text:
                return


class SceneRequests:
    """Runs questions and searches through one NodeThread."""

    def __init__(self, node: NodeThread, wait_s: float) -> None:
        self._node = node
        self._wait_s = wait_s  # for the node to appear

    async def ask(self, asked: SceneRequest) -> AsyncIterator[bytes]:
        """Lines of JSON: the answer's pieces, then the reply or its error. Closing it cancels the question."""
        progress = Progress()

        def call(client: AskClient) -> dict[str, Any]:
            client.on_piece, client.on_key_frames = progress.add_text, progress.set_key_frames
            try:
                request = client.request(asked.text, stream=True, **asked.limits(client, self._wait_s))
                reply = client.ask_when_ready(request, self._wait_s)
            finally:
                client.on_piece = client.on_key_frames = None
            return {"error": error_sentence(reply)} if reply.error_code else answer_fields(reply)

        task = asyncio.create_task(self._run(call))
        task.add_done_callback(progress.end)
        try:
            async for line in progress.lines():
                yield line
            yield json_line(await task)
        finally:
            task.cancel()

    async def search(self, asked: SceneRequest) -> dict[str, Any]:
        """The moments that show the text, or an error."""

        def call(client: AskClient) -> dict[str, Any]:
            limits = asked.limits(client, self._wait_s)
            reply = client.search_when_ready(asked.text, self._wait_s, max_moments=min(FOUND, MAX_MOMENTS), **limits)
            return {"error": error_sentence(reply)} if reply.error_code else moments_fields(reply)

        return await self._run(call)

    async def _run(self, call: Any) -> dict[str, Any]:
        try:
            found: dict[str, Any] = await self._node.run(call)
            return found
        except (ClientError, BadTime, argparse.ArgumentTypeError) as error:
            return {"error": str(error)}
