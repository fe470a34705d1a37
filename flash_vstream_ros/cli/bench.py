"""`flash-vstream-ros bench`: the benchmarks of flash_vstream_ros/bench, by name."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flash_vstream_ros.models.names import HOUSEHOLD, TINY
from flash_vstream_ros.process import importing

from .argument_types import DEVICE_HELP, MODEL_HELP, count, positive
from .output_files import OutputError, output_file, write_output

if TYPE_CHECKING:
    import numpy as np

OWN_ARGUMENTS = {"command", "benchmark", "json", "ros_args"}  # all others are options of the benchmark


class Benchmark(NamedTuple):
    """A module of flash_vstream_ros/bench, with `run(**options)` that returns figures and `show(figures)`."""

    module: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    benchmarks = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    for name, benchmark in BENCHMARKS.items():
        summary = benchmark.summary
        own = benchmarks.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        benchmark.add_arguments(own)
        own.add_argument("--json", type=output_file, metavar="FILE", help="write all figures to FILE")


def run(args: argparse.Namespace) -> int:
    with importing():
        from flash_vstream_ros.bench.errors import BenchmarkError
        from flash_vstream_ros.models.interface import ModelError

        from .sources import SourceError

        module = importlib.import_module(f"flash_vstream_ros.bench.{BENCHMARKS[args.benchmark].module}")
    options: dict[str, Any] = {name: value for name, value in vars(args).items() if name not in OWN_ARGUMENTS}
    try:
        result = module.run(**options)
        module.show(result)
        if args.json:
            write_output(args.json, json.dumps(result, indent=2) + "\n")
    except (BenchmarkError, ModelError, OutputError, SourceError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _chart_file(word: str) -> Path:
    if find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("drawing needs matplotlib, which is missing: pip install matplotlib")
    return output_file(word)


def _model_and_device(parser: argparse.ArgumentParser, model: str) -> None:
    parser.add_argument("--model", default=model, help=MODEL_HELP)
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)


def _image_size(parser: argparse.ArgumentParser, width: int, height: int) -> None:
    parser.add_argument("--width", type=count, default=width, help="image width [pixels] (default: %(default)s)")
    parser.add_argument("--height", type=count, default=height, help="image height [pixels] (default: %(default)s)")


def _memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lengths",
        type=count,
        nargs="+",
        default=[4500, 18_000],
        metavar="SLOTS",
        help="lengths of the streams; a slot is 2 s (default: 4500 18000) [slots]",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1], metavar="SEED", help="seeds, one stream for each (default: 0 1)"
    )
    parser.add_argument(
        "--hours",
        type=positive,
        nargs="*",
        default=[3.5, 6.5, 10.5],
        metavar="H",
        help="ages of the stream at which rare events are searched for; none: skip them (default: 3.5 6.5 10.5) [h]",
    )
    parser.add_argument(
        "--capacity", type=count, default=60, metavar="CLUSTERS", help="clusters of every rule (default: %(default)s)"
    )
    parser.add_argument("--patches", type=count, default=16, help="patches per slot (default: %(default)s)")
    parser.add_argument("--dim", type=count, default=64, help="dimensions per patch (default: %(default)s)")
    parser.add_argument("--places", type=count, default=40, help="places that the robot visits (default: %(default)s)")
    parser.add_argument(
        "--noise",
        type=positive,
        default=0.3,
        help="noise of a slot, relative to the distance between places (default: %(default)s)",
    )


def _tuning(parser: argparse.ArgumentParser) -> None:
    _model_and_device(parser, HOUSEHOLD)


def _stream(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--slots", type=count, default=10_000, help="length of the stream (default: %(default)s)")


def _answers(parser: argparse.ArgumentParser) -> None:
    _model_and_device(parser, HOUSEHOLD)
    _patrols(parser, streams=20, seed=100_000)
    parser.add_argument(
        "--slots",
        type=count,
        nargs=2,
        default=(72, 4),
        metavar=("CSM", "DAM"),
        help="division of the token budget: clusters, key frames (default: 72 4)",
    )
    parser.add_argument(
        "--glimpses",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of visits that show a thing for 9 s and never again (default: %(default)g)",
    )
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="POLICY", help="policies that are asked, such as flash (default: all)"
    )
    parser.add_argument(
        "--second-look",
        type=float,
        default=0.0625,
        metavar="SHARE",
        help="visual tokens of a second look, as a share of the memory's (default: %(default)g)",
    )
    parser.add_argument(
        "--wordings",
        action="store_true",
        help="also ask in other wordings and spellings, with darker and brighter frames, and questions that have no "
        "answer in the simulated world (three times as long)",
    )


def _search(parser: argparse.ArgumentParser) -> None:
    _model_and_device(parser, HOUSEHOLD)
    _patrols(parser, streams=5, seed=800_000)
    parser.add_argument(
        "--prompt",
        type=_search_prompt,
        metavar="QUESTION",
        help="question with {} for the text of a search, to compare wordings (default: that of the service)",
    )


def _places(parser: argparse.ArgumentParser) -> None:
    _model_and_device(parser, HOUSEHOLD)
    parser.add_argument("--streams", type=count, default=5, metavar="N", help="patrols (default: %(default)s)")
    parser.add_argument("--minutes", type=positive, default=40.0, help="length of a patrol (default: %(default)s)")
    _pace(parser)
    parser.add_argument("--seed", type=int, default=830_000, help="seed of the first patrol (default: %(default)s)")


def _watches(parser: argparse.ArgumentParser) -> None:
    _model_and_device(parser, HOUSEHOLD)
    parser.add_argument("--streams", type=count, default=50, metavar="N", help="patrols (default: %(default)s)")
    parser.add_argument("--minutes", type=positive, default=8.0, help="length of a patrol (default: %(default)s)")
    parser.add_argument(
        "--things", type=count, default=2, metavar="N", help="things watched in each patrol (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=860_000, help="seed of the first patrol (default: %(default)s)")


def _search_prompt(word: str) -> str:
    if "{}" not in word or not word.endswith("?"):
        raise argparse.ArgumentTypeError(f"{word!r} must contain {{}} and end with a question mark")
    return word


def _patrols(parser: argparse.ArgumentParser, streams: int, seed: int) -> None:
    """Add the options of the patrols that are evaluated; `streams` and `seed` are defaults."""
    parser.add_argument("--streams", type=count, default=streams, metavar="N", help="patrols (default: %(default)s)")
    parser.add_argument("--minutes", type=positive, default=150.0, help="length of a patrol (default: %(default)s)")
    _pace(parser)
    parser.add_argument("--seed", type=int, default=seed, help="seed of the first patrol (default: %(default)s)")
    parser.add_argument(
        "--processes", type=count, default=1, metavar="N", help="patrols evaluated in parallel (default: %(default)s)"
    )


def _pace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pace",
        type=positive,
        nargs=2,
        default=(220.0, 340.0),
        metavar=("FROM", "TO"),
        help="range of the median duration of a view, drawn for each patrol; the demo's is 15 15 [s] "
        "(default: 220 340)",
    )


def _prefix_cache(parser: argparse.ArgumentParser) -> None:
    _model_and_device(parser, TINY)
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


def _decoding(parser: argparse.ArgumentParser) -> None:
    _model_and_device(parser, TINY)
    parser.add_argument(
        "--rounds", type=count, default=15, help="runs of each pair of attention kernels (default: %(default)s)"
    )
    parser.add_argument(
        "--fresh", type=count, default=3, help="new processes with warm-up, and without (default: %(default)s)"
    )


def _ingest(parser: argparse.ArgumentParser) -> None:
    _model_and_device(parser, TINY)
    parser.add_argument(
        "--seconds", type=positive, default=20.0, help="duration of continuous questions (default: %(default)s)"
    )


def _service(parser: argparse.ArgumentParser) -> None:
    _model_and_device(parser, HOUSEHOLD)
    parser.add_argument("--number", type=count, default=200, metavar="N", help="questions (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=200_000, help="seed of the first patrol (default: %(default)s)")
    parser.add_argument(
        "--rate", type=positive, default=30.0, help="simulated seconds per second (default: %(default)s)"
    )


def _archive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key-frames", type=count, default=1000, help="key frames of each simulated day (default: %(default)s)"
    )
    parser.add_argument(
        "--slots", type=count, default=60, help="slots ingested with an archive, and without (default: %(default)s)"
    )


def _intervals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=positive, default=200.0, help="length of the patrol (default: %(default)g)")
    parser.add_argument(
        "--interval", type=positive, default=5.0, metavar="MINUTES", help="length of an interval (default: %(default)g)"
    )
    parser.add_argument("--seed", type=int, default=12, help="seed of the world (default: %(default)s)")


def _faces(parser: argparse.ArgumentParser) -> None:
    _model_and_device(parser, HOUSEHOLD)
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of images and videos, with faces.csv: a line FILE,LEFT,TOP,WIDTH,HEIGHT for each face [pixels] "
        "(default: only the time is measured)",
    )
    parser.set_defaults(open_images=_images)


def _images(file: Path) -> Iterator[np.ndarray]:
    """The image in a file, or a frame of each second of a video, RGB [height, width, 3]. Raises SourceError."""
    from .sources import open_source
    from .video_answer import at_rate

    return (frame.rgb for frame in at_rate(open_source(str(file)), fps=1.0))


def _camera(parser: argparse.ArgumentParser) -> None:
    _image_size(parser, 640, 480)
    parser.add_argument("--hertz", type=positive, default=30.0, help="images per second (default: %(default)g)")
    parser.add_argument("--seconds", type=positive, default=10.0, help="duration (default: %(default)g)")


def _cameras(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=count, default=3, help="number of cameras (default: %(default)s)")
    _image_size(parser, 1280, 720)
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


BENCHMARKS = {
    "memory": Benchmark(
        "retention",
        "retention over 10 h: distortion against k-means and the released rule, and rare events",
        _memory,
    ),
    "stream": Benchmark(
        "stream", "update time, tokens and bytes over 10,000 slots of the tiny model: they stay constant", _stream
    ),
    "answers": Benchmark(
        "answers", "share of right answers of a trained model, from several memories of equal size", _answers
    ),
    "search": Benchmark("search", "share of searches that find a moment that shows what their text describes", _search),
    "places": Benchmark("places", "share of searches whose best pose is one from which the thing is visible", _places),
    "watches": Benchmark("watches", "events of watches: one for each appearance, and their cost", _watches),
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
    "service": Benchmark("service", "right answers over /ask_scene and offline, to the same questions", _service),
    "archive": Benchmark(
        "archive", "the archive over a simulated week: its bound, cost per key frame, and cost for ingest", _archive
    ),
    "intervals": Benchmark(
        "intervals", "right answers about early intervals of a patrol, from the archive and without it", _intervals
    ),
    "faces": Benchmark(
        "faces", "share of faces that privacy.blur_faces misses in your own images, and its time", _faces
    ),
    "camera": Benchmark("camera", "transport of camera images into the node's callback", _camera),
    "cameras": Benchmark(
        "cameras", "several cameras at full rate during questions: what happens to every image", _cameras
    ),
    "web": Benchmark(
        "web_clients", "answers and frames of the node while many clients, one of them stuck, follow its web page", _web
    ),
    "finetune": Benchmark(
        "finetuning", "right answers to a new kind of question and to all others, before and after finetune", _tuning
    ),
    "fits": Benchmark(
        "fits", "published models that fit into 8, 16, 24 and 64 GB, computed from their sizes", _no_arguments
    ),
}
