"""The benchmarks of flash_vstream_ros/bench as commands: names, summaries and options. Imports no benchmark."""

from __future__ import annotations

from collections.abc import Mapping

from .benchmark import Benchmark
from .of_quality import OF_QUALITY
from .of_speed import OF_SPEED

BENCHMARKS: Mapping[str, Benchmark] = {**OF_QUALITY, **OF_SPEED}

__all__ = ["BENCHMARKS", "Benchmark"]
