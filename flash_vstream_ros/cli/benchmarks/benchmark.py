"""A benchmark as the command line shows it, and options that several benchmarks have."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

from ..argument_types import DEVICE_HELP, MODEL_HELP, count, positive


class Benchmark(NamedTuple):
    """A module of flash_vstream_ros/bench, with `run(**options)` that returns figures and `show(figures)`."""

    module: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


def add_model_and_device(parser: argparse.ArgumentParser, model: str) -> None:
    parser.add_argument("--model", default=model, help=MODEL_HELP)
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)


def add_image_size(parser: argparse.ArgumentParser, width: int, height: int) -> None:
    parser.add_argument("--width", type=count, default=width, help="image width [pixels] (default: %(default)s)")
    parser.add_argument("--height", type=count, default=height, help="image height [pixels] (default: %(default)s)")


def add_pace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pace",
        type=positive,
        nargs=2,
        default=(220.0, 340.0),
        metavar=("FROM", "TO"),
        help="range of the median duration of a view, drawn for each patrol; the demo's is 15 15 [s] "
        "(default: 220 340)",
    )


def add_streams(parser: argparse.ArgumentParser, streams: int, minutes: float) -> None:
    parser.add_argument("--streams", type=count, default=streams, metavar="N", help="patrols (default: %(default)s)")
    parser.add_argument("--minutes", type=positive, default=minutes, help="length of a patrol (default: %(default)s)")


def add_seed(parser: argparse.ArgumentParser, seed: int) -> None:
    parser.add_argument("--seed", type=int, default=seed, help="seed of the first patrol (default: %(default)s)")


def add_patrols(parser: argparse.ArgumentParser, streams: int, seed: int) -> None:
    """Add the options of the patrols that are evaluated; `streams` and `seed` are defaults."""
    add_streams(parser, streams, minutes=150.0)
    add_pace(parser)
    add_seed(parser, seed)
    parser.add_argument(
        "--processes", type=count, default=1, metavar="N", help="patrols evaluated in parallel (default: %(default)s)"
    )
