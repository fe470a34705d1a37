"""The node in a thread of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.node.callback_guard import spin_guarded
from flash_vstream_ros.node.process_hooks import NO_HOOKS, ProcessHooks
from flash_vstream_ros.node.vstream_node import VStreamNode
from flash_vstream_ros.ros import MultiThreadedExecutor, init, shutdown


@contextmanager
def running_node(
    node_type: type[VStreamNode], args: Sequence[str], process_hooks: ProcessHooks = NO_HOOKS
) -> Iterator[tuple[VStreamNode, threading.Thread]]:
    """Run a node; yields it and the thread that spins it. Closes them in the order of the node's own main.

    A benchmark, whose process is the node's alone, passes PROGRAM_HOOKS as main does.
    """
    init(args=args)
    node = node_type(args, process_hooks)
    executor = MultiThreadedExecutor(num_threads=node.threads_needed)
    executor.add_node(node)
    spinning = threading.Thread(target=spin_guarded, args=(executor, ThrottledLog(node.log.error)))
    spinning.start()
    try:
        yield node, spinning
    finally:
        node.close()
        executor.shutdown()
        spinning.join()
        node.destroy_node()
        shutdown()
