"""The node as a program: takes ROS arguments, and returns an exit status."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import replace

from flash_vstream_ros.node.running import running
from flash_vstream_ros.node.vstream_node import PROGRAM_HOOKS, VStreamNode
from flash_vstream_ros.process import EndRequest, end_within
from flash_vstream_ros.ros import ROSArgumentError, SignalHandlerOptions, init, try_shutdown
from flash_vstream_ros.ros.middleware import use_shipped_profile


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C, SIGTERM or the end of its context.

    Returns the exit status: 0, or 2 for invalid ROS arguments. End the process with `end_process` afterwards: a model
    that is still loading continues in its thread.
    """
    use_shipped_profile()
    end = EndRequest()
    try:
        # No handlers of rclpy: they end the context at once, while callbacks may still log, publish or reply.
        init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except ROSArgumentError as error:
        print(error, file=sys.stderr)
        return 2
    ending = threading.Event()

    def unloaded() -> None:
        if not ending.is_set():  # a full garbage collection would delay the end by 0.3 s
            PROGRAM_HOOKS.unloaded()

    try:
        node = VStreamNode(sys.argv if args is None else args, replace(PROGRAM_HOOKS, unloaded=unloaded))
        with running(node, on_spun=end.trigger):
            end.wait()
            ending.set()
            end_within()
    finally:
        try_shutdown()
    return 0
