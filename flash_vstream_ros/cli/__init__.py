"""The command line `flash-vstream-ros`: one module a command, each with `add_arguments` and `run`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from flash_vstream_ros import __version__

COMMANDS = {
    "node": "run the node: camera images in, answers out",
    "ask": "ask a running node a question",
    "replay": "publish a video, a folder of frames, a rosbag2 or the demo's patrol as a camera",
    "demo": "a simulated camera, the node and questions, in three processes over the wire",
    "doctor": "check this machine and say what to do about what is missing",
    "bench": "measure the memory and print ratios",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="flash-vstream-ros", description="A visual memory for robots: watch a camera for hours, ask what happened."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            # Only the chosen command is imported: torch takes seconds, and --help should not.
            importlib.import_module(f"{__name__}.{name}").add_arguments(command)
    parsed = parser.parse_args(_protect_ros_arguments(arguments))
    try:
        return importlib.import_module(f"{__name__}.{parsed.command}").run(parsed)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _protect_ros_arguments(arguments: list[str]) -> list[str]:
    """Hand everything from --ros-args on to ROS untouched."""
    if "--ros-args" in arguments and "--" not in arguments:
        at = arguments.index("--ros-args")
        return [*arguments[:at], "--", *arguments[at:]]
    return arguments


def add_ros_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "ros_args",
        nargs=argparse.REMAINDER,
        metavar="--ros-args ...",
        help="ROS arguments: -p name:=value, -r from:=to",
    )


def ros_arguments(parsed: argparse.Namespace) -> list[str]:
    return [argument for argument in parsed.ros_args if argument != "--"]
