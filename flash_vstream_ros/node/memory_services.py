"""The memory services: ~/pause, ~/resume, ~/reset, ~/forget, ~/list_memory, ~/save and ~/load.

Each places a command for the engine's worker, which runs it between two frames or tokens, and waits for the result.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from flash_vstream_ros.engine.answering.question import ErrorCode
from flash_vstream_ros.engine.archive.database import ArchiveError
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.restart.snapshots import CannotSave
from flash_vstream_ros.memory.scope import EVERYTHING
from flash_vstream_ros.node import conversions
from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.node.poses.pose_config import PoseConfig
from flash_vstream_ros.node.requests import REQUEST_QOS, scope_of
from flash_vstream_ros.node.service_replies import WRITE_TIMEOUT_S, Refused, attempt, reply, run_command
from flash_vstream_ros.ros import MutuallyExclusiveCallbackGroup, Node
from flash_vstream_ros.ros.interfaces import Forget, ListMemory, Trigger

Result = TypeVar("Result")


class MemoryServices:
    """The services of `node`. `engine` returns the present engine, or None if there is none.

    `forgotten` is called on the service's thread whenever something was forgotten.
    """

    def __init__(
        self,
        node: Node,
        engine: Callable[[], Engine | None],
        pose: Callable[[], PoseConfig],
        forgotten: Callable[[], None],
    ) -> None:
        self._log = NodeLog(node)
        self._engine = engine
        self._pose = pose
        self._forgotten = forgotten
        # One at a time: commands run in the order of the calls.
        group = MutuallyExclusiveCallbackGroup()
        self.services = [
            node.create_service(kind, name, callback, qos_profile=REQUEST_QOS, callback_group=group)
            for kind, name, callback in (
                (Trigger, "~/pause", self._on_pause),
                (Trigger, "~/resume", self._on_resume),
                (Trigger, "~/reset", self._on_reset),
                (Forget, "~/forget", self._on_forget),
                (ListMemory, "~/list_memory", self._on_list),
                (Trigger, "~/save", self._on_save),
                (Trigger, "~/load", self._on_load),
            )
        ]

    def _on_pause(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def pause() -> str:
            return "paused" if self._run(MemoryCommands.pause) else "already paused"

        return self._trigger_reply(response, pause)

    def _on_resume(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def resume() -> str:
            return "resumed" if self._run(MemoryCommands.resume) else "was not paused"

        return self._trigger_reply(response, resume)

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def reset() -> str:
            slots, erasures = self._run(
                lambda commands: (commands.reset(), commands.erase_from_disk(EVERYTHING)),
                self._forgotten,
            )
            self._wait_for_disk(*erasures)
            return f"forgot all {slots} slots"

        return self._trigger_reply(response, reset)

    def _on_forget(self, request: Forget.Request, response: Forget.Response) -> Forget.Response:
        def forget() -> None:
            scope = scope_of(request, self._pose())
            lost, erasures = self._run(
                lambda commands: (commands.forget(scope), commands.erase_from_disk(scope)),
                self._forgotten,
            )
            _, response.key_frames = self._wait_for_disk(*erasures)
            response.slots = lost.slots
            response.clusters_removed = lost.removed
            response.clusters_rebuilt = lost.rebuilt

        return self._reply(response, forget)

    def _on_list(self, request: ListMemory.Request, response: ListMemory.Response) -> ListMemory.Response:
        def list_entries() -> None:
            scope = scope_of(request, self._pose())
            entries = self._run(lambda commands: commands.entries(scope))
            response.entries = [conversions.entry_message(entry, thumbnail=request.thumbnails) for entry in entries]

        return self._reply(response, list_entries)

    def _on_save(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def save() -> str:
            (size,) = self._wait_for_disk(self._run(MemoryCommands.save))
            return f"saved {size} bytes"

        return self._trigger_reply(response, save)

    def _on_load(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._trigger_reply(response, lambda: self._run(MemoryCommands.load, self._forgotten))

    def _wait_for_disk(self, *work: Future[int] | None) -> list[int]:
        """Wait until `work` on the disk is done. Returns its results, 0 in place of None. Raises Refused."""
        started = [future for future in work if future is not None]
        if wait(started, WRITE_TIMEOUT_S).not_done:
            raise Refused(ErrorCode.TIMEOUT, f"the disk took more than {WRITE_TIMEOUT_S:.0f} s; it is still writing")
        try:
            return [0 if future is None else future.result() for future in work]
        except (CannotSave, ArchiveError) as error:
            raise Refused(ErrorCode.INTERNAL, str(error)) from error

    def _run(self, work: Callable[[MemoryCommands], Result], then: Callable[[], None] = lambda: None) -> Result:
        """Let the worker run the command `work`, then call `then`. Returns the result of `work`. Raises Refused."""
        return run_command(self._engine(), work, then)

    def _trigger_reply(self, response: Trigger.Response, work: Callable[[], str]) -> Trigger.Response:
        refused, message = attempt(work, self._log)
        response.success = refused is None
        response.message = message if refused is None else f"{refused.code.name}: {refused}"
        return response

    def _reply(self, response: Any, work: Callable[[], None]) -> Any:
        return reply(response, work, self._log)
