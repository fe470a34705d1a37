"""Publishes ~/memory_view/compressed: a contact sheet of the memory, for the image displays of ROS tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as TooSlow

from flash_vstream_ros.engine.contact_sheet import KEY_FRAME, SYNOPSIS, Thumbnail, sheet_file
from flash_vstream_ros.engine.control.command_queue import NotReady
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.memory.scope import EVERYTHING
from flash_vstream_ros.memory.slot import EntryKind, MemoryEntry
from flash_vstream_ros.ros import Node
from flash_vstream_ros.ros.interfaces import CompressedImage, Header
from flash_vstream_ros.ros.stamps import stamp_message

from .callback_guard import never_raises
from .periodic_timer import PeriodicTimer

TOPIC = "~/memory_view/compressed"  # the compressed transport of image_transport's topic ~/memory_view
MAX_ENTRIES = 120  # a sheet of ten columns and twelve rows
WORKER_S = 5.0  # longest wait for the worker; then this sheet is left out


class MemoryView:
    """Draws a sheet every `period_s` seconds while somebody subscribes to it; 0: never."""

    def __init__(self, node: Node, engine: Callable[[], Engine], period_s: float) -> None:
        self._engine = engine
        self._publisher = node.create_publisher(CompressedImage, TOPIC, 1)
        self._timer = PeriodicTimer(node, self._publish, period_s)

    def set_period(self, period_s: float) -> None:
        self._timer.set_period(period_s)

    @never_raises
    def _publish(self) -> None:
        if not self._publisher.get_subscription_count():
            return
        command = self._engine().submit(lambda commands: commands.entries(EVERYTHING))
        try:
            entries = command.result(WORKER_S)
        except (NotReady, TooSlow, CancelledError):
            command.cancel()
            return
        newest_ns = max((entry.last_ns for entry in entries), default=0)
        sheet = sheet_file(thumbnails(entries, newest_ns), ".jpg")
        header = Header(stamp=stamp_message(newest_ns))
        self._publisher.publish(CompressedImage(header=header, format="bgr8; jpeg compressed bgr8", data=sheet))


def thumbnails(entries: Sequence[MemoryEntry], newest_ns: int) -> list[Thumbnail]:
    """The newest entries, ordered by time, each with its camera, its age in minutes and seconds, and its weight."""
    chosen = sorted(entries, key=lambda entry: entry.thumbnail_ns)[-MAX_ENTRIES:]
    return [
        Thumbnail(
            f"{entry.camera[:10]} -{_age(newest_ns - entry.thumbnail_ns)} w{entry.weight:.3g}",
            KEY_FRAME if entry.kind is EntryKind.DAM else SYNOPSIS,
            entry.thumbnail,
        )
        for entry in chosen
    ]


def _age(nanoseconds: int) -> str:
    minutes, seconds = divmod(max(nanoseconds, 0) // 1_000_000_000, 60)
    return f"{minutes}:{seconds:02d}"
