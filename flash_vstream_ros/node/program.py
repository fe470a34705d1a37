"""The node as a program: from its ROS arguments to its exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flash_vstream_ros.node.running import running
from flash_vstream_ros.node.vstream_node import PROGRAM_HOOKS, VStreamNode
from flash_vstream_ros.process import EndRequest, end_within
from flash_vstream_ros.ros import ROSArgumentError, SignalHandlerOptions, init, try_shutdown
from flash_vstream_ros.ros.middleware import use_shipped_profile


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C, SIGTERM or the end of its context.

    Returns the exit status: 0, or 2 for unusable ROS arguments. A model that is loading then goes on in its thread:
    end the process with `end_process`.
    """
    use_shipped_profile()
    end = EndRequest()
    try:
        # The handlers of rclpy end the context at once, under whatever logs, publishes or replies just then.
        init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except ROSArgumentError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        node = VStreamNode(sys.argv if args is None else args, PROGRAM_HOOKS)
        with running(node, on_spun=end.make):
            end.wait()
            end_within()
    finally:
        try_shutdown()
    return 0
