"""Published benchmarks, each a file that reads the official annotations into items. May import evaluation only.

To add one, write a file with a `Benchmark`, and list it in BENCHMARKS: the choices of `--set` follow.
"""

from __future__ import annotations

from collections.abc import Mapping

from .benchmark import Benchmark
from .navqa import NAVQA
from .ovo_bench import OVO_BENCH
from .slvqa import SLVQA
from .streaming_bench import STREAMING_BENCH
from .vstream_qa import VSTREAM_QA

BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark for benchmark in (*VSTREAM_QA, *STREAMING_BENCH, OVO_BENCH, NAVQA, *SLVQA)
}

__all__ = ["BENCHMARKS", "Benchmark"]
