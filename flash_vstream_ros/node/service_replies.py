"""Runs commands of services on the engine's worker, and turns their errors into replies."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any, TypeVar

from flash_vstream_ros.engine.answering.question import ErrorCode
from flash_vstream_ros.engine.control.command_queue import NotReady
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.restart.snapshots import CannotSave
from flash_vstream_ros.engine.watches.watch import BadWatch
from flash_vstream_ros.memory.scope import BadScope
from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.node.requests import BadRequest

# Longest step of the worker: encoding a slot or prefilling a chunk, with a large model on a CPU.
STEP_TIMEOUT_S = 60.0
WRITE_TIMEOUT_S = 60.0  # longest wait for the disk
REFUSALS = (BadScope, BadRequest, BadWatch, CannotSave)  # errors of a request, which its sender can correct
NO_ENGINE = "there is no memory: the node is not configured; configure it first"

Result = TypeVar("Result")


class Refused(Exception):
    """An error reply to a command: its code and its message."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def run_command(
    engine: Engine | None, work: Callable[[MemoryCommands], Result], then: Callable[[], None] = lambda: None
) -> Result:
    """Let the worker run the command `work`, then call `then`. Returns the result of `work`. Raises Refused."""
    if engine is None:
        raise Refused(ErrorCode.NOT_READY, NO_ENGINE)
    command = engine.submit(work)
    if not wait([command], STEP_TIMEOUT_S).done and not command.done():
        withdrawn = command.cancel()
        if not withdrawn:
            command.add_done_callback(lambda _: then())
        what = "nothing was done; try again" if withdrawn else "the command is running now"
        raise Refused(ErrorCode.TIMEOUT, f"the node was busy with one step for {STEP_TIMEOUT_S:.0f} s; {what}")
    try:
        result = command.result()
    except NotReady as error:
        raise Refused(ErrorCode.NOT_READY, str(error)) from error
    then()
    return result


def reply(response: Any, work: Callable[[], None], log: NodeLog) -> Any:
    """`response`, which `work` fills, or the error of `work` in its place."""
    refused, _ = attempt(work, log)
    if refused is not None:
        response.error_code, response.error_msg = int(refused.code), str(refused)
    return response


def attempt(work: Callable[[], Result], log: NodeLog) -> tuple[Refused | None, Result | None]:
    """Returns the error reply of `work`, or None and its result. An unexpected exception is logged as INTERNAL."""
    try:
        return None, work()
    except Refused as refused:
        return refused, None
    except REFUSALS as error:
        return Refused(ErrorCode.INVALID_REQUEST, str(error)), None
    except Exception as error:
        log.error(f"a service failed: {traceback.format_exc()}")
        return Refused(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"), None
