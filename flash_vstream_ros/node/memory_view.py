"""Publishes the memory for ROS tools: ~/memory_view/compressed, a contact sheet, and ~/places, a marker per pose."""

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
from .node_log import NodeLog
from .periodic_timer import PeriodicTimer
from .place_markers import marker_array_type, place_markers
from .settings import Settings

SHEET = "~/memory_view/compressed"  # the compressed transport of image_transport's topic ~/memory_view
MAX_ENTRIES = 120  # a sheet of ten columns and twelve rows
PLACES = "~/places"
WORKER_S = 5.0  # longest wait for the worker; then nothing is published this time


class MemoryView:
    """Draws every `memory_view.period_s` seconds what somebody subscribes to; 0: never."""

    def __init__(self, node: Node, engine: Callable[[], Engine], settings: Callable[[], Settings]) -> None:
        self._engine = engine
        self._settings = settings
        self._sheets = node.create_publisher(CompressedImage, SHEET, 1)
        marker_array = marker_array_type()
        self._places = None if marker_array is None else node.create_publisher(marker_array, PLACES, 1)
        if self._places is None:
            NodeLog(node).info("~/places is not published: visualization_msgs is not installed")
        self._timer = PeriodicTimer(node, self._publish, settings().memory_view_period_s)

    def apply(self, settings: Settings) -> None:
        self._timer.set_period(settings.memory_view_period_s)

    @never_raises
    def _publish(self) -> None:
        is_sheet_wanted = bool(self._sheets.get_subscription_count())
        places = self._places
        if places is not None and not places.get_subscription_count():
            places = None
        if not is_sheet_wanted and places is None:
            return
        command = self._engine().submit(lambda commands: commands.entries(EVERYTHING))
        try:
            entries = command.result(WORKER_S)
        except (NotReady, TooSlow, CancelledError):
            command.cancel()
            return
        if places is not None:
            places.publish(place_markers(entries, self._settings().pose.map_id))
        if is_sheet_wanted:
            self._sheets.publish(_sheet(entries))


def _sheet(entries: Sequence[MemoryEntry]) -> CompressedImage:
    newest_ns = max((entry.last_ns for entry in entries), default=0)
    sheet = sheet_file(thumbnails(entries, newest_ns), ".jpg")
    header = Header(stamp=stamp_message(newest_ns))
    return CompressedImage(header=header, format="bgr8; jpeg compressed bgr8", data=sheet)


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
