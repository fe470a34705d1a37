"""`flash-vstream-ros bench`: the benchmarks of flash_vstream_ros/bench, by name."""

from __future__ import annotations

import argparse
import importlib

BENCHMARKS = {
    "memory": ("distortion", "distortion against the published k-means and the released rule; cost over 10,000 slots"),
    "camera": ("camera", "images over the wire into the node's callback"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    listed = "; ".join(f"{name}: {what}" for name, (_, what) in BENCHMARKS.items())
    parser.add_argument(
        "benchmark", nargs="?", choices=BENCHMARKS, default="memory", help=f"{listed} (default: memory)"
    )
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of the benchmark; --help lists them")


def run(args: argparse.Namespace) -> int:
    module, _ = BENCHMARKS[args.benchmark]
    return int(importlib.import_module(f"flash_vstream_ros.bench.{module}").main(args.options))
