"""Runs the node in a thread of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flash_vstream_ros.node.process_hooks import NO_HOOKS, ProcessHooks
from flash_vstream_ros.node.running import running
from flash_vstream_ros.node.vstream_node import VStreamNode
from flash_vstream_ros.ros import SignalHandlerOptions, init, shutdown


@contextmanager
def running_node(
    node_type: type[VStreamNode], args: Sequence[str], process_hooks: ProcessHooks = NO_HOOKS
) -> Iterator[tuple[VStreamNode, threading.Thread]]:
    """Run a node in a `with` block. Yields the node and the thread that spins it.

    It starts and ends as in `node.program.main`. A benchmark whose process runs only this node passes PROGRAM_HOOKS, as
    main does.
    """
    init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = node_type(args, process_hooks)
        with running(node) as thread:
            yield node, thread
    finally:
        shutdown()
