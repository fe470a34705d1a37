"""Runs calls of the node, one after the other, in a thread that owns the client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from flash_vstream_ros.client import AskClient, ClientError

MAX_PENDING = 8  # calls that run or wait
Reply = TypeVar("Reply")


class NodeThread:
    """A context manager around a connected client. `run` is for one event loop."""

    def __init__(self, client: AskClient) -> None:
        self._client = client
        self._thread = ThreadPoolExecutor(1, "flash-vstream-agents")
        self._pending: set[threading.Event] = set()

    def __enter__(self) -> NodeThread:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel all calls, and wait until the running one has ended."""
        for stop in tuple(self._pending):
            stop.set()
        self._thread.shutdown(cancel_futures=True)

    async def run(self, call: Callable[[AskClient], Reply]) -> Reply:
        """The result of `call`. A cancelled call is also cancelled in the node.

        Raises ClientError if too many calls are pending, and what `call` raises.
        """
        if len(self._pending) >= MAX_PENDING:
            raise ClientError(f"{MAX_PENDING} calls are pending already: wait until one of them ends")
        stop = threading.Event()

        def run() -> Reply:
            self._client.stop = stop
            return call(self._client)

        self._pending.add(stop)
        try:
            return await asyncio.wrap_future(self._thread.submit(run))
        except asyncio.CancelledError:
            stop.set()
            raise
        finally:
            self._pending.discard(stop)
