"""Options of the benchmarks that measure what is remembered, answered and found."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flash_vstream_ros.models.names import HOUSEHOLD

from ..argument_types import count, positive
from .benchmark import Benchmark, add_model_and_device, add_pace, add_patrols, add_seed, add_streams

if TYPE_CHECKING:
    import numpy as np


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
    parser.add_argument(
        "--grouping",
        choices=("by_weight", "by_age"),
        default="by_weight",
        help="memory.grouping of the hierarchical memory (default: %(default)s)",
    )


def _answers(parser: argparse.ArgumentParser) -> None:
    add_model_and_device(parser, HOUSEHOLD)
    add_patrols(parser, streams=20, seed=100_000)
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
    add_model_and_device(parser, HOUSEHOLD)
    add_patrols(parser, streams=5, seed=800_000)
    parser.add_argument(
        "--prompt",
        type=_search_prompt,
        metavar="QUESTION",
        help="question with {} for the text of a search, to compare wordings (default: that of the service)",
    )


def _search_prompt(word: str) -> str:
    if "{}" not in word or not word.endswith("?"):
        raise argparse.ArgumentTypeError(f"{word!r} must contain {{}} and end with a question mark")
    return word


def _places(parser: argparse.ArgumentParser) -> None:
    add_model_and_device(parser, HOUSEHOLD)
    add_streams(parser, streams=5, minutes=40.0)
    add_pace(parser)
    add_seed(parser, 830_000)


def _watches(parser: argparse.ArgumentParser) -> None:
    add_model_and_device(parser, HOUSEHOLD)
    add_streams(parser, streams=50, minutes=8.0)
    parser.add_argument(
        "--things", type=count, default=2, metavar="N", help="things watched in each patrol (default: %(default)s)"
    )
    add_seed(parser, 860_000)


def _evidence(parser: argparse.ArgumentParser) -> None:
    add_model_and_device(parser, HOUSEHOLD)
    add_streams(parser, streams=8, minutes=150.0)
    add_pace(parser)
    add_seed(parser, 880_000)
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FOLDER",
        help="the model's folder: write weights fitted on all patrols into its config.json",
    )


def _service(parser: argparse.ArgumentParser) -> None:
    add_model_and_device(parser, HOUSEHOLD)
    parser.add_argument("--number", type=count, default=200, metavar="N", help="questions (default: %(default)s)")
    add_seed(parser, 200_000)
    parser.add_argument(
        "--rate", type=positive, default=30.0, help="simulated seconds per second (default: %(default)s)"
    )


def _intervals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=positive, default=200.0, help="length of the patrol (default: %(default)g)")
    parser.add_argument(
        "--interval", type=positive, default=5.0, metavar="MINUTES", help="length of an interval (default: %(default)g)"
    )
    parser.add_argument("--seed", type=int, default=12, help="seed of the world (default: %(default)s)")


def _faces(parser: argparse.ArgumentParser) -> None:
    add_model_and_device(parser, HOUSEHOLD)
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
    from ..sources import open_source
    from ..video_answer import at_rate

    return (frame.rgb for frame in at_rate(open_source(str(file)), fps=1.0))


def _tuning(parser: argparse.ArgumentParser) -> None:
    add_model_and_device(parser, HOUSEHOLD)


OF_QUALITY = {
    "memory": Benchmark(
        "retention",
        "retention over 10 h: distortion against k-means and the released rule, and rare events",
        _memory,
    ),
    "answers": Benchmark(
        "answers", "share of right answers of a trained model, from several memories of equal size", _answers
    ),
    "search": Benchmark("search", "share of searches that find a moment that shows what their text describes", _search),
    "places": Benchmark("places", "share of searches whose best pose is one from which the thing is visible", _places),
    "evidence": Benchmark(
        "evidence_heads", "evidence ranked by all attention heads alike, and by heads fitted for the model", _evidence
    ),
    "watches": Benchmark("watches", "events of watches: one for each appearance, and their cost", _watches),
    "service": Benchmark("service", "right answers over /ask_scene and offline, to the same questions", _service),
    "intervals": Benchmark(
        "intervals", "right answers about early intervals of a patrol, from the archive and without it", _intervals
    ),
    "faces": Benchmark(
        "faces", "share of faces that privacy.blur_faces misses in your own images, and its time", _faces
    ),
    "finetune": Benchmark(
        "finetuning", "right answers to a new kind of question and to all others, before and after finetune", _tuning
    ),
}
