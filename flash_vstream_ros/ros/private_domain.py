"""Reserves a ROS domain that no other process on this machine uses, for tests, demos and benchmarks."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

# ROS 2's `domain_coordinator` binds the same ports, so that tests of other packages avoid the domain too.
PORT_BASE = 32768
DOMAINS = range(1, 101)  # the ports of domains above 101 are in Linux's ephemeral range

_until_exit = ExitStack()


@contextmanager
def reserved_domain() -> Iterator[int]:
    """Reserve a domain in a `with` block. Raises RuntimeError if all are reserved."""
    for domain in random.sample(DOMAINS, len(DOMAINS)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as lock:
            try:
                lock.bind(("", PORT_BASE + domain))
            except OSError:
                continue
            yield domain
            return
    raise RuntimeError(
        f"all ROS domains from {DOMAINS[0]} to {DOMAINS[-1]} are reserved by other tests or demos on this machine: "
        "end some of them"
    )


def claim_domain() -> int:
    """Reserve a domain until this process ends. Raises RuntimeError if all are reserved."""
    return _until_exit.enter_context(reserved_domain())


def use_private_domain() -> None:
    """Reserve a domain, on this machine only, for this process and its children. Keeps variables that are set."""
    if not os.environ.get("ROS_DOMAIN_ID"):
        os.environ["ROS_DOMAIN_ID"] = str(claim_domain())
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
