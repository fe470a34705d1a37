"""Converts message and service definitions to Python classes, DDS types and RIHS01 hashes.

Definitions of common packages come from `rosbags` (ROS 2 Jazzy), others from the folders given to `add_interfaces`.
Classes are created on first use.
"""

from __future__ import annotations

import re
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from cyclonedds.idl import IdlStruct, make_idl_struct
from cyclonedds.idl import types as idl
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.base import TypesysError, normalize_fieldname

from . import messages
from .definitions import SERVICES
from .messages import Message

NO_FIELDS = [("structure_needs_at_least_one_member", (Nodetype.BASE, ("uint8", 0)))]

typestore = get_typestore(Stores.ROS2_JAZZY)

_IDL_PRIMITIVES: dict[str, Any] = {
    "bool": bool,
    "byte": idl.uint8,
    "char": idl.uint8,
    "string": str,
    **{name: getattr(idl, name) for name in (*messages.INTEGER_RANGES, "float32", "float64")},
}
_ROS_NAMES = {"float32": "float", "float64": "double", "bool": "boolean", "byte": "octet", "char": "uint8"}
_NUMPY_NAMES = {"bool": "bool_", "byte": "uint8", "char": "uint8"}

_folders: dict[str, Path] = {}


def add_interfaces(package: str, folder: Path) -> None:
    """Add `folder`, whose subfolders msg and srv have the definitions of `package`."""
    _folders[package] = folder


def load_interface(type_name: str) -> Any:
    """The class of a message or service with this full name, such as "sensor_msgs/msg/Image".

    Raises LookupError for an unknown type and ValueError for a definition that cannot be parsed.
    """
    return service_class(type_name) if "/srv/" in type_name else message_class(type_name)


def register(text: str, type_name: str) -> None:
    """Add a definition to the type store. Raises ValueError if it cannot be parsed."""
    package, _, name = type_name.partition("/")
    try:
        # Parsed as if it were in msg/, where relative names of the package resolve; registered with the real name.
        parsed = get_types_from_msg(text, f"{package}/msg/{name.rpartition('/')[2]}")
    except TypesysError as error:
        raise ValueError(f"The definition of {type_name} cannot be parsed: {error}") from error
    ((constants, fields),) = parsed.values()
    typestore.register({type_name: (constants, fields or NO_FIELDS)})


def _definition(type_name: str) -> str:
    """The text of a definition in a folder of interfaces."""
    package, kind, name = type_name.split("/")
    if package not in _folders:
        raise LookupError(f"No definition of {type_name}: neither rosbags nor a folder of interfaces has it")
    path = _folders[package] / kind / f"{name}.{kind}"
    if not path.is_file():
        raise LookupError(f"No definition of {type_name}: {path} does not exist")
    return path.read_text(encoding="utf-8")


@cache
def message_class(type_name: str) -> type[Message]:
    """The class of a message with this full name ("sensor_msgs/msg/Image").

    Raises LookupError for an unknown type and ValueError for a definition that cannot be parsed.
    """
    if type_name not in typestore.fielddefs:
        register(_definition(type_name), type_name)
    constants, fields = typestore.fielddefs[type_name]
    for _, description in fields:
        if (element := _inner(description)[0])[0] == Nodetype.NAME:
            message_class(element[1])
    return _make_class(type_name, constants, fields)


def _make_class(type_name: str, constants: list[Any], fields: list[Any]) -> type[Message]:
    names = [normalize_fieldname(name) for name, _ in fields]
    visible = [] if fields == NO_FIELDS else fields
    namespace: dict[str, Any] = {
        "__slots__": tuple(names),
        "__doc__": f"Message {type_name}.",
        "__module__": __name__,
        "__msgtype__": type_name,
        "TYPE_NAME": type_name,
        "_fields_and_types": {normalize_fieldname(name): _ros_name(field) for name, field in visible},
        "_checks": dict(zip(names, (_check(field) for _, field in fields), strict=True)),
        "_defaults": dict(zip(names, (_default(field) for _, field in fields), strict=True)),
    }
    namespace.update({name: value for name, _, value in constants})
    made = type(type_name.rpartition("/")[2], (Message,), namespace)
    typestore.types[type_name] = made
    typestore.cache.pop(type_name, None)
    return made


@cache
def service_class(type_name: str) -> Any:
    """The class of a service ("flash_vstream_ros/srv/AskScene"); its attributes are `Request` and `Response`."""
    text = SERVICES[type_name] if type_name in SERVICES else _definition(type_name)
    request, *rest = re.split(r"^---[ \t]*$\n?", text, maxsplit=1, flags=re.MULTILINE)
    if not rest:
        raise ValueError(f"The definition of {type_name} has no line '---' between request and response")
    for suffix, part in (("Request", request), ("Response", rest[0])):
        register(part, f"{type_name}_{suffix}")
    namespace = {
        "Request": message_class(f"{type_name}_Request"),
        "Response": message_class(f"{type_name}_Response"),
        "TYPE_NAME": type_name,
        "__doc__": f"Service {type_name}.",
        "__module__": __name__,
    }
    return type(type_name.rpartition("/")[2], (), namespace)


def _inner(description: Any) -> tuple[Any, int, bool, bool]:
    """Returns a field's element type, length or bound, whether it is a collection, and whether its length is fixed."""
    kind, inner = description
    if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        return inner[0], inner[1], True, kind == Nodetype.ARRAY
    return description, 0, False, False


def _is_numeric(element: Any) -> bool:
    return bool(element[0] == Nodetype.BASE and element[1][0] != "string")


def _dtype(element: Any) -> np.dtype:
    base = element[1][0]
    return np.dtype(getattr(np, _NUMPY_NAMES.get(base, base)))


def _check(description: Any) -> messages.Check:
    element, length, collection, fixed = _inner(description)
    if collection:
        if _is_numeric(element):
            return messages.check_numbers(_dtype(element), length, fixed)
        return messages.check_sequence(_check(element), length, fixed)
    if element[0] == Nodetype.NAME:
        return messages.check_message(partial(message_class, element[1]))
    base, bound = element[1]
    if base == "string":
        return messages.check_string(bound)
    if base in ("float32", "float64", "bool"):
        return messages.check_plain(bool if base == "bool" else float)
    if base == "byte":
        return messages.check_octet
    return messages.check_integer({"char": "uint8"}.get(base, base))


def _default(description: Any) -> Any:
    element, length, collection, fixed = _inner(description)
    if collection:
        count = length if fixed else 0
        if _is_numeric(element):
            return partial(np.zeros, count, dtype=_dtype(element))
        item = _default(element)
        return lambda: [item() for _ in range(count)]
    if element[0] == Nodetype.NAME:
        return message_class(element[1])
    base = element[1][0]
    return {"string": str, "bool": bool, "float32": float, "float64": float}.get(base, int)


def _ros_name(description: Any) -> str:
    element, length, collection, fixed = _inner(description)
    if element[0] == Nodetype.NAME:
        name = element[1].replace("/msg/", "/")
    else:
        base, bound = element[1]
        name = _ROS_NAMES.get(base, base) + (f"<{bound}>" if bound else "")
    if not collection:
        return name
    if fixed:
        return f"{name}[{length}]"
    return f"sequence<{name}, {length}>" if length else f"sequence<{name}>"


@cache
def type_hash(type_name: str) -> str:
    """The RIHS01 hash (REP-2011) that ROS 2 puts into the user data of its endpoints."""
    return str(typestore.hash_rihs01(type_name))


@cache
def idl_type(type_name: str, service_header: bool = False) -> type[IdlStruct]:
    """The DDS type. `service_header` adds the client handle and number that rmw_cyclonedds puts before the fields."""
    fields: dict[str, Any] = {}
    if service_header:
        fields = {"client_handle": idl.uint64, "sequence_number": idl.int64}
    for name, description in typestore.fielddefs[type_name][1]:
        fields[name] = _idl(description)
    package, kind, name = type_name.split("/")
    return make_idl_struct(f"{name}_", f"{package}.{kind}.dds_.{name}_", fields, dataclassify=False)


def _idl(description: Any) -> Any:
    element, length, collection, fixed = _inner(description)
    if element[0] == Nodetype.NAME:
        item: Any = idl_type(element[1])
    else:
        base, bound = element[1]
        item = idl.bounded_str[bound] if bound else _IDL_PRIMITIVES[base]
    if not collection:
        return item
    if fixed:
        return idl.array[item, length]
    return idl.sequence[item, length] if length else idl.sequence[item]
