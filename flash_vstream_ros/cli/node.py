"""`flash-vstream-ros node`: the node without ros2 run or ros2 launch."""

from __future__ import annotations

import argparse

from flash_vstream_ros.cli import add_ros_arguments, ros_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="hub id or folder; tiny-random: untrained, no download (parameter model.name)")
    parser.add_argument("--params-file", help="YAML file with parameters, like config/vstream.yaml")
    parser.add_argument("--image-topic", help="topic of the camera (remaps image)")
    add_ros_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from flash_vstream_ros.node import main

    ours: list[str] = []
    if args.params_file:
        ours += ["--params-file", args.params_file]
    if args.model:
        ours += ["-p", f"model.name:={args.model}"]
    if args.image_topic:
        ours += ["-r", f"image:={args.image_topic}"]
    theirs = [argument for argument in ros_arguments(args) if argument != "--ros-args"]
    return main(["flash_vstream", "--ros-args", *ours, *theirs])
