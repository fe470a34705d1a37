"""ROS names: validates and expands them, and converts them to DDS names and back."""

from __future__ import annotations

import re

from .exceptions import NameValidationException

GRAPH_TOPIC = "ros_discovery_info"


def validate_node_name(name: str) -> str:
    if not name:
        raise NameValidationException("node name", name, "it must not be empty", 0)
    _refuse("node name", name, r"[^A-Za-z0-9_]", "it has a character other than letters, digits, '_'")
    _refuse("node name", name, r"^[0-9]", "it starts with a digit")
    return name


def validate_namespace(namespace: str) -> str:
    """The namespace with a leading and without a trailing slash."""
    full = "/" + namespace.strip("/") if namespace.strip("/") else "/"
    if full != "/":
        _validate_tokens("namespace", full)
    return full


def _refuse(kind: str, name: str, pattern: str, reason: str) -> None:
    if found := re.search(pattern, name):
        raise NameValidationException(kind, name, reason, found.start())


def _validate_tokens(kind: str, name: str) -> None:
    _refuse(kind, name, r"[^A-Za-z0-9_/]", "it has a character other than letters, digits, '_', '/'")
    _refuse(kind, name, r"//", "it has two slashes in a row")
    _refuse(kind, name, r"(?<=/)[0-9]", "one of its parts starts with a digit")
    _refuse(kind, name, r"(?<=.)/$", "it ends with a slash")


def full_node_name(name: str, namespace: str) -> str:
    return f"{namespace.rstrip('/')}/{name}"


def expand(name: str, node_name: str, namespace: str, *, service: bool = False) -> str:
    """The absolute name of a relative ("image"), private ("~/status") or absolute ("/tf") name."""
    kind = "service name" if service else "topic name"
    if not name:
        raise NameValidationException(kind, name, "it must not be empty", 0)
    if name == "~" or name.startswith("~/"):
        full = full_node_name(node_name, namespace) + name[1:]
    elif name.startswith("~"):
        raise NameValidationException(kind, name, "'~' must be followed by '/'", 1)
    elif name.startswith("/"):
        full = name
    else:
        full = f"{namespace.rstrip('/')}/{name}"
    _validate_tokens(kind, full)
    return full


def topic_to_dds(name: str) -> str:
    return "rt" + name


def request_to_dds(name: str) -> str:
    return f"rq{name}Request"


def reply_to_dds(name: str) -> str:
    return f"rr{name}Reply"


def topic_from_dds(name: str) -> str | None:
    """The ROS topic of a DDS topic, or None if it is not one."""
    return name[2:] if name.startswith("rt/") else None


def service_from_dds(name: str) -> str | None:
    """The ROS service of a DDS request topic, or None if it is not one."""
    return name[2 : -len("Request")] if name.startswith("rq/") and name.endswith("Request") else None


def type_from_dds(name: str) -> str:
    """The ROS name of a DDS type: "std_msgs/msg/String" for "std_msgs::msg::dds_::String_".

    The request and the response type of a service give the name of the service.
    """
    plain = name.replace("::dds_::", "::").rstrip("_").replace("::", "/")
    return re.sub(r"_(Request|Response)$", "", plain) if "/srv/" in plain else plain
