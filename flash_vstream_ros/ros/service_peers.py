"""Finds out if a server can answer this process, since services do not work between different middlewares."""

from __future__ import annotations

from typing import Any

from . import Node, middleware

VENDORS = {b"\x01\x01": "Connext DDS", b"\x01\x0f": "Fast DDS", b"\x01\x10": "Cyclone DDS"}
"""The first bytes of a DDS endpoint's identifier (RTPS 2.5, table 9.2, and the list of vendor ids at omg.org)."""


def own_vendor(rmw: str) -> bytes | None:
    """The vendor of an rmw implementation; None if it is not DDS or not known."""
    if rmw == middleware.EMBEDDED or "cyclonedds" in rmw:
        return b"\x01\x10"
    if "fastrtps" in rmw or "fastdds" in rmw:
        return b"\x01\x0f"
    return b"\x01\x01" if "connext" in rmw else None


def server_infos(node: Node, service: str) -> list[Any]:
    """The servers of `service` that `node` knows, from the topic of their replies on DDS; else empty.

    A server is known before the name of its node. With rmw_fastrtps, that name may stay unknown if nodes start at the
    same moment.
    """
    topic = f"rr{node.resolve_service_name(service)}Reply"
    return list(node.get_publishers_info_by_topic(topic, no_mangle=True))


def why_unanswerable(node: Node, service: str) -> str:
    """The reason why no known server of `service` can answer `node`; "" if one can, or if none is known."""
    name = node.resolve_service_name(service)
    own = own_vendor(middleware.identifier())
    found = {bytes(server.endpoint_gid[:2]) for server in server_infos(node, service)} & set(VENDORS)
    if own is None or not found or own in found:
        return ""
    others = " and ".join(sorted(VENDORS[vendor] for vendor in found))
    return (
        f"{name} is offered on {others} only, and this process uses {VENDORS[own]}: the two exchange no service calls. "
        "Start both with RMW_IMPLEMENTATION=rmw_cyclonedds_cpp (the embedded runtime always uses Cyclone DDS), or use "
        "topics: publish the question on the node's ~/question and listen to its ~/answer"
    )
