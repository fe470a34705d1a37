"""`flash-vstream-ros bench`: the benchmarks of flash_vstream_ros/bench, by name."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from typing import Any

from flash_vstream_ros.process import importing

from .benchmarks import BENCHMARKS
from .output_files import OutputError, output_file, write_output

OWN_ARGUMENTS = {"command", "benchmark", "json", "ros_args"}  # all others are options of the benchmark


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
