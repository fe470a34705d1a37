"""The node in a thread of this process."""

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
    """Run a node; yields it and the thread that spins it.

    Starts and ends it like `node.program.main`. A benchmark that runs only this node in its process passes
    PROGRAM_HOOKS as main does.
    """
    init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = node_type(args, process_hooks)
        with running(node) as thread:
            yield node, thread
    finally:
        shutdown()
