"""`flash-vstream-ros node`: the node without ros2 run or ros2 launch."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="hub id or folder; no download: household, tiny-random (parameter model.name)")
    parser.add_argument("--params-file", help="YAML file with parameters, like config/vstream.yaml")
    parser.add_argument("--image-topic", help="topic of the camera (remaps image)")


def run(args: argparse.Namespace) -> int:
    from flash_vstream_ros.node.vstream_node import main

    ours: list[str] = []
    if args.params_file:
        ours += ["--params-file", args.params_file]
    if args.model:
        ours += ["-p", f"model.name:={args.model}"]
    if args.image_topic:
        ours += ["-r", f"image:={args.image_topic}"]
    return main(["flash_vstream", "--ros-args", *ours, *args.ros_args[1:]])
