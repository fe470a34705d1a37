"""Parses the command line, runs the command, and converts errors and signals to an exit status."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import cast

from flash_vstream_ros import __version__
from flash_vstream_ros.process import INTERRUPTED, exit_on_interrupt, raise_on_interrupt

from . import COMMANDS
from .times import join_negative_values

ROS_ARGS = "--ros-args"


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands, with every argument described. Needs no torch."""
    parser = argparse.ArgumentParser(
        prog="flash-vstream-ros",
        description="A visual memory for robots: watch a camera for hours, ask what happened.",
        epilog="Every command that is a node takes ROS arguments at the end: --ros-args -p name:=value -r from:=to."
        " Ctrl-C or SIGTERM ends a command with status 130, and the node with 0."
        " A command in a shell's background ignores Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        _module(name).add_arguments(command)
    return parser


def run_command(argv: Sequence[str]) -> int:
    """Run the command in `argv`. Returns its exit status."""
    parsed = _parse(argv)
    try:
        return _run(parsed)
    except KeyboardInterrupt:
        return INTERRUPTED


def run_program() -> int:
    """Run the command in the process's arguments. Handles signals and the output of the process."""
    parsed = _parse(sys.argv[1:])
    try:
        raise_on_interrupt()
        try:
            status = _run(parsed)
        finally:
            exit_on_interrupt()  # signals also end the process while Python finalizes
    except KeyboardInterrupt:
        status = INTERRUPTED
    return _flushed(status)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    ours, ros_arguments = split_ros_arguments(list(argv))
    parsed = build_parser().parse_args(join_negative_values(ours))
    parsed.ros_args = ros_arguments
    return parsed


def _run(parsed: argparse.Namespace) -> int:
    try:
        return cast(int, _module(parsed.command).run(parsed))
    except BrokenPipeError:
        return _output_closed()
    except OSError as error:
        return _output_failed(error) if error.filename is None else _failed(parsed, str(error))
    except ImportError as error:
        return _failed(parsed, f"{error}; `flash-vstream-ros doctor` shows what is missing")


def _failed(parsed: argparse.Namespace, reason: str) -> int:
    print(f"{parsed.command} failed: {reason}", file=sys.stderr)
    return 1


def _flushed(status: int) -> int:
    """Flush the output and return the exit status; if that fails, Python itself would print a traceback."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _output_closed()
    except OSError as error:
        return _output_failed(error)
    return status


def _output_failed(error: OSError) -> int:
    """Report that the standard output cannot be written, for example on a full disk."""
    _discard_output()
    print(f"cannot write to the standard output: {error.strerror or error}", file=sys.stderr)
    return 1


def _output_closed() -> int:
    """End silently after the reader of a pipe, such as `head`, has ended."""
    _discard_output()
    return 1


def _discard_output() -> None:
    """Redirect buffered output to /dev/null, since Python flushes it once more when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{command.replace('-', '_')}")


def split_ros_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments before --ros-args, and those from --ros-args on."""
    at = arguments.index(ROS_ARGS) if ROS_ARGS in arguments else len(arguments)
    return arguments[:at], arguments[at:]
