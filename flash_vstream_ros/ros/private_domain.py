"""A ROS domain of one's own, for a demo or a benchmark that no robot should hear."""

from __future__ import annotations

import os
import random


def use_private_domain() -> None:
    """A random domain on this machine only, for this process and its children; what the user set stays."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.randrange(1, 100)))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
