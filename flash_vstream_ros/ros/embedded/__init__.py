"""The part of rclpy that this package needs, over Cyclone DDS and rosbags, without a ROS installation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .context import Context, get_default_context
from .executors import Executor, SingleThreadedExecutor
from .node import Node
from .task import Future


def init(
    args: Sequence[str] | None = None, *, context: Context | None = None, domain_id: int | None = None
) -> None:
    """Start the runtime and let SIGINT and SIGTERM end it. `args` defaults to sys.argv."""
    chosen = context or get_default_context()
    chosen.init(args, domain_id=domain_id)
    chosen.install_signal_handlers()


def shutdown(*, context: Context | None = None) -> None:
    """Leave the network. Raises RuntimeError when that was done already."""
    (context or get_default_context()).shutdown()


def try_shutdown(*, context: Context | None = None) -> None:
    """Leave the network if that was not done already."""
    (context or get_default_context()).try_shutdown()


def ok(*, context: Context | None = None) -> bool:
    """Whether the runtime was started and neither shut down nor signalled to end."""
    return (context or get_default_context()).ok()


def create_node(node_name: str, **options: Any) -> Node:
    return Node(node_name, **options)


def _executor(executor: Executor | None, node: Node) -> Executor:
    return executor or SingleThreadedExecutor(context=node.context)


def spin(node: Node, executor: Executor | None = None) -> None:
    """Run a node's callbacks until the runtime ends. Raises what Executor.spin() raises."""
    chosen = _executor(executor, node)
    chosen.add_node(node)
    try:
        chosen.spin()
    finally:
        chosen.remove_node(node)


def spin_once(node: Node, *, executor: Executor | None = None, timeout_sec: float | None = None) -> None:
    """Run one callback of a node, or none within `timeout_sec`."""
    chosen = _executor(executor, node)
    chosen.add_node(node)
    try:
        chosen.spin_once(timeout_sec)
    finally:
        chosen.remove_node(node)


def spin_until_future_complete(
    node: Node, future: Future, executor: Executor | None = None, timeout_sec: float | None = None
) -> None:
    """Run a node's callbacks until `future` is done, or for `timeout_sec`."""
    chosen = _executor(executor, node)
    chosen.add_node(node)
    try:
        chosen.spin_until_future_complete(future, timeout_sec)
    finally:
        chosen.remove_node(node)
