"""Spins a node in a thread, and destroys it while its context is still valid."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.node.callback_guard import spin_guarded
from flash_vstream_ros.node.vstream_node import VStreamNode
from flash_vstream_ros.ros import MultiThreadedExecutor


@contextmanager
def running(node: VStreamNode, on_spun: Callable[[], None] = lambda: None) -> Iterator[threading.Thread]:
    """Spin `node` in a thread, which is yielded; on exit close and destroy the node.

    The thread calls `on_spun` when it ends. Every callback ends before the node is destroyed. The caller shuts the
    context down afterwards. If rclpy's own signal handlers did so earlier, callbacks could not log, publish or reply.
    """
    executor = MultiThreadedExecutor(num_threads=node.threads_needed)

    def spin() -> None:
        try:
            spin_guarded(executor, ThrottledLog(node.log.error))
        finally:
            on_spun()

    thread = threading.Thread(target=spin, name="flash-vstream-spin", daemon=True)
    with ExitStack() as at_the_end:  # in reverse order
        at_the_end.callback(node.destroy_node)
        at_the_end.callback(thread.join)
        at_the_end.callback(executor.shutdown)
        at_the_end.callback(node.close)
        executor.add_node(node)
        thread.start()
        yield thread
