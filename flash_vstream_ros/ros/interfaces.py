"""Messages and services, from ROS 2's generated packages or made by the embedded runtime; and their JSON form."""

from __future__ import annotations

import base64
import importlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import RUNTIME


def interface(type_name: str) -> Any:
    """The class of a message or service by its full name, such as "sensor_msgs/msg/Image".

    Raises LookupError when neither this package nor the runtime knows it.
    """
    package, kind, name = type_name.split("/")
    if RUNTIME == "embedded":
        from .embedded.types import message_class, service_class

        return service_class(type_name) if kind == "srv" else message_class(type_name)
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"No Python class of {type_name}: is {package} installed and sourced?") from error


if TYPE_CHECKING:
    from builtin_interfaces.msg import Duration as DurationMsg
    from builtin_interfaces.msg import Time as TimeMsg
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image
    from std_msgs.msg import Bool, Empty, Header, String

    from flash_vstream_ros.msg import MemoryEntry, MemoryStatus, SceneSummary
    from flash_vstream_ros.srv import AskScene
else:
    DurationMsg = interface("builtin_interfaces/msg/Duration")
    TimeMsg = interface("builtin_interfaces/msg/Time")
    CameraInfo = interface("sensor_msgs/msg/CameraInfo")
    CompressedImage = interface("sensor_msgs/msg/CompressedImage")
    Image = interface("sensor_msgs/msg/Image")
    Bool = interface("std_msgs/msg/Bool")
    Empty = interface("std_msgs/msg/Empty")
    Header = interface("std_msgs/msg/Header")
    String = interface("std_msgs/msg/String")
    MemoryEntry = interface("flash_vstream_ros/msg/MemoryEntry")
    MemoryStatus = interface("flash_vstream_ros/msg/MemoryStatus")
    SceneSummary = interface("flash_vstream_ros/msg/SceneSummary")
    AskScene = interface("flash_vstream_ros/srv/AskScene")

DiagnosticArray: Any = interface("diagnostic_msgs/msg/DiagnosticArray")
DiagnosticStatus: Any = interface("diagnostic_msgs/msg/DiagnosticStatus")
KeyValue: Any = interface("diagnostic_msgs/msg/KeyValue")
ClockMsg: Any = interface("rosgraph_msgs/msg/Clock")
EmptySrv: Any = interface("std_srvs/srv/Empty")
SetBool: Any = interface("std_srvs/srv/SetBool")
Trigger: Any = interface("std_srvs/srv/Trigger")

_COLLECTION = re.compile(r"^(?:sequence<(?P<item>[^,>]+(?:<\d+>)?)(?:, \d+)?>|(?P<element>.+)\[\d+\])$")


def to_dict(message: Any, *, binary: bool = True) -> dict[str, Any]:
    """A message as plain Python values under its field names, ready for JSON.

    Byte sequences (uint8[], byte[]) become base64 text, or are left out where `binary` is False.
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
    if isinstance(value, bytes):
        return value[0]
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(item, binary) for item in value]


def _as_bytes(value: Any) -> bytes:
    return (
        b"".join(value) if isinstance(value, (list, tuple)) and value and isinstance(value[0], bytes) else bytes(value)
    )


def from_dict(message_type: Any, values: Mapping[str, Any]) -> Any:
    """The reverse of to_dict; fields that are missing keep their default.

    Raises ValueError naming the field that does not exist or whose value does not fit.
    """
    message = message_type()
    types = message.get_fields_and_field_types()
    for name, value in values.items():
        if name not in types:
            raise ValueError(f"{message_type.__name__} has no field '{name}', it has {', '.join(types) or 'none'}")
        try:
            setattr(message, name, _typed(types[name], value))
        except (AssertionError, TypeError, OverflowError) as error:
            raise ValueError(f"{message_type.__name__}.{name}: {error or repr(value)}") from error
    return message


def _typed(field_type: str, value: Any) -> Any:
    item = _item_type(field_type)
    if item is None:
        if "/" in field_type:
            return from_dict(_nested(field_type), value)
        if field_type in ("float", "double") and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return bytes([value]) if field_type == "octet" and isinstance(value, int) else value
    if item in ("uint8", "octet") and isinstance(value, str):
        raw = base64.b64decode(value, validate=True)
        return [bytes([byte]) for byte in raw] if item == "octet" and RUNTIME == "rclpy" else raw
    return [_typed(item, element) for element in value]


def _item_type(field_type: str) -> str | None:
    """The type of a collection's items, None for what is no collection."""
    found = _COLLECTION.match(field_type)
    return (found["item"] or found["element"]) if found else None


def _nested(field_type: str) -> Any:
    package, name = field_type.split("/")
    return interface(f"{package}/msg/{name}")
