"""`flash-vstream-ros node`: run the node without ros2 run or ros2 launch."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Sequence
from typing import NoReturn

from flash_vstream_ros.process import end_process, exit_on_interrupt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument("--image-topic", help="topic of the camera (remaps image)")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--model` and `--params-file`."""
    parser.add_argument("--model", help="hub id or folder; no download: household, tiny-random (parameter model.name)")
    parser.add_argument("--params-file", help="YAML file with parameters, like config/vstream.yaml")


def run(args: argparse.Namespace) -> NoReturn:
    ours: list[str] = []
    if args.params_file:
        ours += ["--params-file", args.params_file]
    if args.model:
        ours += ["-p", f"model.name:={args.model}"]
    if args.image_topic:
        ours += ["-r", f"image:={args.image_topic}"]
    run_node(["flash_vstream", "--ros-args", *ours, *args.ros_args[1:]])


def run_node(args: Sequence[str]) -> NoReturn:
    """Run the node with these ROS arguments, and end the process with its exit status."""
    exit_on_interrupt()
    try:
        from flash_vstream_ros.node.program import main

        status = main(args)
    except Exception:
        traceback.print_exc()
        status = 1
    end_process(status)
