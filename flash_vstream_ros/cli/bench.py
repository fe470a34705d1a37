"""`flash-vstream-ros bench`: the benchmarks of flash_vstream_ros/bench, by name."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from flash_vstream_ros.bench import answers, camera, cameras, decoding, distortion, fits, ingest, speed, stream
from flash_vstream_ros.bench import prefix_cache as warm
from flash_vstream_ros.bench import service as wire
from flash_vstream_ros.models.interface import ModelError

BENCHMARKS = {
    "memory": (
        distortion,
        "what is kept of a long stream, beside the published k-means and the released rule",
    ),
    "stream": (stream, "10,000 slots through the tiny model: time per update, tokens and bytes must stay"),
    "answers": (answers, "what a trained model can answer from each of several memories of the same size"),
    "warm": (warm, "time to the first token, cold and warm, after 10 minutes and after 10 h of stream"),
    "speed": (
        speed,
        "everything that takes time, beside its floor on this machine and beside the released procedure",
    ),
    "decoding": (decoding, "a token beside its floor, what grouped attention gains, the first question of a process"),
    "ingest": (ingest, "what a resting scene costs, frames a second, and the memory's age while questions are asked"),
    "wire": (wire, "the same questions over /ask_scene and offline"),
    "camera": (camera, "camera images over the wire into the node's callback"),
    "cameras": (cameras, "several cameras at full rate, with questions meanwhile: what became of every image"),
    "fits": (fits, "which published models fit into 8, 16, 24 and 64 GB, computed from their sizes"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    benchmarks = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    for name, (module, summary) in BENCHMARKS.items():
        benchmark = benchmarks.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        module.add_arguments(benchmark)
        benchmark.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def run(args: argparse.Namespace) -> int:
    module, _ = BENCHMARKS[args.benchmark]
    given = {"command", "benchmark", "json", "ros_args"}
    try:
        result = module.run(**{name: value for name, value in vars(args).items() if name not in given})
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    module.show(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0
