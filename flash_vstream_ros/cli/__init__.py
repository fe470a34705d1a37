"""The command line `flash-vstream-ros`: one module a command, each with `add_arguments` and `run`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from flash_vstream_ros import __version__

COMMANDS = {
    "node": "run the node: camera images in, answers out",
    "ask": "ask a running node a question",
    "memory": "list what a running node remembers; pause it, resume it, make it forget",
    "clip": "ask about a whole clip, offline, as the published systems answer",
    "replay": "publish a video, a folder of frames, a rosbag2 or the demo's patrol as a camera",
    "demo": "a simulated camera, the node and questions, in three processes over the wire",
    "doctor": "check this machine and say what to do about what is missing",
    "bench": "measure the memory and print ratios",
    "train-demo": "train the household model, which the demo and the tests use, from nothing",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    arguments, ros_arguments = split_ros_arguments(list(sys.argv[1:] if argv is None else argv))
    parser = argparse.ArgumentParser(
        prog="flash-vstream-ros",
        description="A visual memory for robots: watch a camera for hours, ask what happened.",
        epilog="Every command that is a node takes ROS arguments at the end: --ros-args -p name:=value -r from:=to",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            # Only the chosen command is imported: torch takes seconds, and --help should not.
            _module(name).add_arguments(command)
    parsed = parser.parse_args(arguments)
    parsed.ros_args = ros_arguments
    try:
        return _module(parsed.command).run(parsed)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{command.replace('-', '_')}")


def split_ros_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Ours, and everything from --ros-args on."""
    at = arguments.index("--ros-args") if "--ros-args" in arguments else len(arguments)
    return arguments[:at], arguments[at:]
