"""Message and service classes, from ROS 2's generated packages or the embedded runtime, and their JSON form."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from . import load_interface as interface

if TYPE_CHECKING:
    from builtin_interfaces.msg import Duration as DurationMsg
    from builtin_interfaces.msg import Time as TimeMsg
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
    from geometry_msgs.msg import Point, PoseStamped, PoseWithCovarianceStamped
    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import Empty, Header, String
    from std_srvs.srv import Trigger

    from flash_vstream_ros.msg import (
        AnswerPiece,
        Event,
        MemoryEntry,
        MemoryStatus,
        ReportSection,
        SceneSummary,
        Watch,
        WatchStatus,
    )
    from flash_vstream_ros.srv import (
        AddWatch,
        AskScene,
        Forget,
        ListMemory,
        ListWatches,
        RemoveWatch,
        Report,
        Search,
    )
else:
    DurationMsg = interface("builtin_interfaces/msg/Duration")
    TimeMsg = interface("builtin_interfaces/msg/Time")
    DiagnosticArray = interface("diagnostic_msgs/msg/DiagnosticArray")
    DiagnosticStatus = interface("diagnostic_msgs/msg/DiagnosticStatus")
    KeyValue = interface("diagnostic_msgs/msg/KeyValue")
    Point = interface("geometry_msgs/msg/Point")
    PoseStamped = interface("geometry_msgs/msg/PoseStamped")
    PoseWithCovarianceStamped = interface("geometry_msgs/msg/PoseWithCovarianceStamped")
    CompressedImage = interface("sensor_msgs/msg/CompressedImage")
    Image = interface("sensor_msgs/msg/Image")
    Empty = interface("std_msgs/msg/Empty")
    Header = interface("std_msgs/msg/Header")
    String = interface("std_msgs/msg/String")
    AnswerPiece = interface("flash_vstream_ros/msg/AnswerPiece")
    Event = interface("flash_vstream_ros/msg/Event")
    MemoryEntry = interface("flash_vstream_ros/msg/MemoryEntry")
    MemoryStatus = interface("flash_vstream_ros/msg/MemoryStatus")
    ReportSection = interface("flash_vstream_ros/msg/ReportSection")
    SceneSummary = interface("flash_vstream_ros/msg/SceneSummary")
    Watch = interface("flash_vstream_ros/msg/Watch")
    WatchStatus = interface("flash_vstream_ros/msg/WatchStatus")
    AddWatch = interface("flash_vstream_ros/srv/AddWatch")
    AskScene = interface("flash_vstream_ros/srv/AskScene")
    Forget = interface("flash_vstream_ros/srv/Forget")
    ListMemory = interface("flash_vstream_ros/srv/ListMemory")
    ListWatches = interface("flash_vstream_ros/srv/ListWatches")
    RemoveWatch = interface("flash_vstream_ros/srv/RemoveWatch")
    Report = interface("flash_vstream_ros/srv/Report")
    Search = interface("flash_vstream_ros/srv/Search")
    Trigger = interface("std_srvs/srv/Trigger")

_COLLECTION = re.compile(r"^(?:sequence<(?P<item>[^,>]+(?:<\d+>)?)(?:, \d+)?>|(?P<element>.+)\[\d+\])$")


def to_dict(message: Any, *, binary: bool = True) -> dict[str, Any]:
    """Convert a message to plain Python values by field name, ready for JSON.

    Byte sequences (uint8[], byte[]) become base64 text, or are left out if `binary` is False.
    """
    result = {}
    for name, field_type in message.get_fields_and_field_types().items():
        value = getattr(message, name)
        if _item_type(field_type) in ("uint8", "octet"):
            if binary:
                result[name] = base64.b64encode(_as_bytes(value)).decode()
        else:
            result[name] = _plain(value, binary)
    return result


def _plain(value: Any, binary: bool) -> Any:
    if hasattr(value, "get_fields_and_field_types"):
        return to_dict(value, binary=binary)
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, bytes):  # a field of type byte in rclpy
        return value[0]
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(item, binary) for item in value]


def _as_bytes(value: Any) -> bytes:
    return (
        b"".join(value) if isinstance(value, (list, tuple)) and value and isinstance(value[0], bytes) else bytes(value)
    )


def _item_type(field_type: str) -> str | None:
    """The type of a collection's items; None if the field is not a collection."""
    found = _COLLECTION.match(field_type)
    return (found["item"] or found["element"]) if found else None
