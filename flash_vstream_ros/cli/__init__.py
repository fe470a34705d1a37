"""The command line `flash-vstream-ros`: one module per command, each with `add_arguments` and `run`.

It may import everything else; nothing imports it. Modules import torch, OpenCV and ROS only inside `run`, so that
`--help` and usage errors do not need them.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not imported from typing, which would delay the handling of Ctrl-C
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

COMMANDS = {
    "node": "run the node: camera images in, answers out",
    "ask": "ask a running node a question",
    "report": "report what happened in an interval, as Markdown with pictures",
    "search": "find the moments that show what a text describes, in a running node or a memory in a file",
    "where": "say where a thing was seen best, as a pose that the robot can drive to",
    "watch": "let a running node watch for something, and print when it begins and ends",
    "memory": "list, forget, pause, resume or reset the memory of a running node",
    "mcp": "let agents ask a running node through the Model Context Protocol",
    "web": "show a running node on a web page, and ask it there",
    "archive": "list the key frames that a node has archived, or export them as a bag",
    "clip": "answer a question about a whole video offline, as the published systems do",
    "finetune": "fine-tune a model with LoRA on questions about recordings, through the real memory",
    "evaluate": "run a published streaming benchmark, with this memory and with controls",
    "remember": "turn a video, a folder of images or a bag into a memory in a file, without a node",
    "replay": "publish a video, a folder of images, a rosbag2 or the demo's patrol as a camera",
    "demo": "run a simulated camera, the node and questions in three processes that communicate over DDS",
    "doctor": "check this machine, and say how to fix what is missing",
    "bench": "run a benchmark and print ratios",
    "train-demo": "train the household model, used by the demo and the tests, from scratch",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status: 0 done, 1 failed, 2 wrong usage, 130 ended by Ctrl-C or SIGTERM.

    Without `argv`, it runs as the program: it uses the process's arguments, and signals end it without a traceback.
    """
    if argv is not None:
        from .command_line import run_command

        return run_command(argv)
    from flash_vstream_ros.process import exit_on_interrupt

    exit_on_interrupt()
    from .command_line import run_program

    return run_program()


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands, with every argument described. Needs no torch."""
    from .command_line import build_parser

    return build_parser()
