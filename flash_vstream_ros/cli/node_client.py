"""The client of a running node, for the commands that call its services."""

from __future__ import annotations

import argparse

from flash_vstream_ros.client import AskClient
from flash_vstream_ros.ros.middleware import use_shipped_profile


def node_client(args: argparse.Namespace, service: str = "ask_scene") -> AskClient:
    """A client, not connected yet, for the node that `args` name; its middleware is configured as the node's is."""
    use_shipped_profile()
    return AskClient(service, args.ros_args, args.node)
