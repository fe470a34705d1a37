"""The services ~/add_watch, ~/remove_watch and ~/list_watches, and the topic ~/events."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar, cast

from flash_vstream_ros.engine.answering.question import ErrorCode
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.watches.watch import WatchEvent
from flash_vstream_ros.engine.watches.watch_file import WatchFileError
from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.node.requests import REQUEST_QOS, new_question_id
from flash_vstream_ros.node.service_replies import WRITE_TIMEOUT_S, Refused, reply, run_command
from flash_vstream_ros.node.watch_messages import event_message, status_message, watch_of
from flash_vstream_ros.ros import MutuallyExclusiveCallbackGroup, Node
from flash_vstream_ros.ros.interfaces import AddWatch, Event, ListWatches, RemoveWatch

EVENTS_DEPTH = 100

Result = TypeVar("Result")


class WatchServices:
    """Converts messages to and from the engine's watches. `engine` returns the present engine."""

    def __init__(self, node: Node, engine: Callable[[], Engine]) -> None:
        self._log = NodeLog(node)
        self._engine = engine
        self._events = node.create_publisher(Event, "~/events", EVENTS_DEPTH)
        group = MutuallyExclusiveCallbackGroup()  # one at a time: in the order of the calls
        self.services = [
            node.create_service(kind, name, callback, qos_profile=REQUEST_QOS, callback_group=group)
            for kind, name, callback in (
                (AddWatch, "~/add_watch", self._on_add),
                (RemoveWatch, "~/remove_watch", self._on_remove),
                (ListWatches, "~/list_watches", self._on_list),
            )
        ]

    def publish(self, event: WatchEvent) -> None:
        """Publish an event of a watch. The engine's worker calls this; publishing does not wait for subscribers."""
        self._events.publish(event_message(event))

    def _on_add(self, request: AddWatch.Request, response: AddWatch.Response) -> AddWatch.Response:
        def add() -> None:
            watch = watch_of(request.watch, request.watch.watch_id or new_question_id())
            response.watch_id = watch.id
            _wait_for_disk(self._run(lambda commands: commands.watches.add(watch)))

        return self._reply(response, add)

    def _on_remove(self, request: RemoveWatch.Request, response: RemoveWatch.Response) -> RemoveWatch.Response:
        watch_id = str(request.watch_id)
        return self._reply(
            response, lambda: _wait_for_disk(self._run(lambda commands: commands.watches.remove(watch_id)))
        )

    def _on_list(self, _: ListWatches.Request, response: ListWatches.Response) -> ListWatches.Response:
        def list_watches() -> None:
            status = self._run(lambda commands: commands.watches.status)
            response.watches = [status_message(each) for each in status.watches]
            response.device_share = status.device_share

        return self._reply(response, list_watches)

    def _run(self, work: Callable[[MemoryCommands], Result]) -> Result:
        return run_command(self._engine(), work)

    def _reply(self, response: Result, work: Callable[[], None]) -> Result:
        return cast(Result, reply(response, work, self._log))


def _wait_for_disk(write: Future[None] | None) -> None:
    """Wait until the file of the watches is written, if there is one. Raises Refused."""
    if write is None:
        return
    if wait([write], WRITE_TIMEOUT_S).not_done:
        raise Refused(ErrorCode.TIMEOUT, f"the disk took more than {WRITE_TIMEOUT_S:.0f} s; it is still writing")
    try:
        write.result()
    except WatchFileError as error:
        raise Refused(ErrorCode.INTERNAL, f"it is done, but lost at a restart: {error}") from error
