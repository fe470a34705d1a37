"""DDS domains of this process: each is configured once and shared by the contexts that are in it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from cyclonedds.domain import Domain

from . import cyclone, dds_log


@dataclass
class _Shared:
    domain: Domain
    configuration: str
    users: int = 0


_domains: dict[int, _Shared] = {}
_lock = threading.Lock()


def enter(domain_id: int, configuration: str) -> None:
    """Make a domain ready. Raises DDSException, and RuntimeError if it runs with another configuration."""
    with _lock:
        if domain_id not in _domains:
            _domains[domain_id] = _Shared(cyclone.make_domain(domain_id, configuration, dds_log.FILE), configuration)
        shared = _domains[domain_id]
        if shared.configuration != configuration:
            raise RuntimeError(
                f"Domain {domain_id} is used by this process with other discovery settings: give all contexts of a "
                "process the same ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS and CYCLONEDDS_URI"
            )
        shared.users += 1


def leave(domain_id: int) -> None:
    """Undo enter(); the last one to leave frees the domain."""
    with _lock:
        shared = _domains[domain_id]
        shared.users -= 1
        if shared.users == 0:
            del _domains[domain_id]
            cyclone.dispose(shared.domain)
