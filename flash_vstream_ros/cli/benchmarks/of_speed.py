"""Options of the benchmarks that measure time, memory and transport."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from flash_vstream_ros.models.names import TINY

from ..argument_types import DEVICE_HELP, count, positive
from ..output_files import output_file
from .benchmark import Benchmark, add_image_size, add_model_and_device


def _stream(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--slots", type=count, default=10_000, help="length of the stream (default: %(default)s)")


def _prefix_cache(parser: argparse.ArgumentParser) -> None:
    add_model_and_device(parser, TINY)
    parser.add_argument(
        "--rounds", type=count, default=10, help="uncached questions at each stream length (default: %(default)s)"
    )
    parser.add_argument(
        "--further-slots", type=count, default=6, help="slots after which the cache is rebuilt (default: %(default)s)"
    )


def _speed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shape",
        default="tiny",
        help="network shape, with random weights: tiny, qwen2-vl-2b (2b) or qwen2-vl-7b (7b) (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument(
        "--rounds", type=count, default=5, help="uncached questions at each stream length (default: %(default)s)"
    )
    parser.add_argument(
        "--updates", type=count, default=12, help="memory updates compared with the release (default: %(default)s)"
    )
    parser.add_argument("--slots", type=count, default=30, help="slots ingested from a camera (default: %(default)s)")
    parser.add_argument("--chart", type=_chart_file, metavar="FILE.png", help="draw the figures to FILE.png")


def _chart_file(word: str) -> Path:
    if find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("drawing needs matplotlib, which is missing: pip install matplotlib")
    return output_file(word)


def _decoding(parser: argparse.ArgumentParser) -> None:
    add_model_and_device(parser, TINY)
    parser.add_argument(
        "--rounds", type=count, default=15, help="runs of each pair of attention kernels (default: %(default)s)"
    )
    parser.add_argument(
        "--fresh", type=count, default=3, help="new processes with warm-up, and without (default: %(default)s)"
    )


def _ingest(parser: argparse.ArgumentParser) -> None:
    add_model_and_device(parser, TINY)
    parser.add_argument(
        "--seconds", type=positive, default=20.0, help="duration of continuous questions (default: %(default)s)"
    )


def _archive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key-frames", type=count, default=1000, help="key frames of each simulated day (default: %(default)s)"
    )
    parser.add_argument(
        "--slots", type=count, default=60, help="slots ingested with an archive, and without (default: %(default)s)"
    )


def _camera(parser: argparse.ArgumentParser) -> None:
    add_image_size(parser, 640, 480)
    parser.add_argument("--hertz", type=positive, default=30.0, help="images per second (default: %(default)g)")
    parser.add_argument("--seconds", type=positive, default=10.0, help="duration (default: %(default)g)")


def _cameras(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=count, default=3, help="number of cameras (default: %(default)s)")
    add_image_size(parser, 1280, 720)
    parser.add_argument(
        "--hertz", type=positive, default=30.0, help="images per second of each camera (default: %(default)g)"
    )
    parser.add_argument("--seconds", type=positive, default=60.0, help="duration (default: %(default)g)")
    parser.add_argument(
        "--reliability",
        default="best_effort",
        choices=("best_effort", "reliable"),
        help="QoS reliability of the cameras (default: %(default)s)",
    )


def _web(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", type=count, default=20, help="clients, one of them stuck (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=positive, default=10.0, help="duration with clients, and again without (default: %(default)g)"
    )
    parser.add_argument(
        "--round", dest="round_s", type=positive, default=60.0, help="duration of one round (default: %(default)g) [s]"
    )
    parser.add_argument(
        "--rate",
        type=positive,
        default=4.0,
        help="frames per second, one for each of the patrol (default: %(default)g)",
    )


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: the benchmark has no options."""


OF_SPEED = {
    "stream": Benchmark(
        "stream", "update time, tokens and bytes over 10,000 slots of the tiny model: they stay constant", _stream
    ),
    "prefix-cache": Benchmark(
        "prefix_cache",
        "time to first token, cached and uncached, after 10 minutes and after 10 h of stream",
        _prefix_cache,
    ),
    "speed": Benchmark(
        "speed", "time of every stage, against the machine's lower bound and against the released procedure", _speed
    ),
    "decoding": Benchmark(
        "decoding",
        "time per token against its lower bound, grouped attention, and a process's first question",
        _decoding,
    ),
    "ingest": Benchmark(
        "ingest", "cost of a static scene, highest frame rate, and age of the memory during questions", _ingest
    ),
    "archive": Benchmark(
        "archive", "the archive over a simulated week: its bound, cost per key frame, and cost for ingest", _archive
    ),
    "camera": Benchmark("camera", "transport of camera images into the node's callback", _camera),
    "cameras": Benchmark(
        "cameras", "several cameras at full rate during questions: what happens to every image", _cameras
    ),
    "web": Benchmark(
        "web_clients", "answers and frames of the node while many clients, one of them stuck, follow its web page", _web
    ),
    "fits": Benchmark(
        "fits", "published models that fit into 8, 16, 24 and 64 GB, computed from their sizes", _no_arguments
    ),
}
