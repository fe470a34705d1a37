"""Measures this machine's copy bandwidth and matrix-multiplication rate, which give lower bounds of times."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from flash_vstream_ros.instruments.stopwatch import timed

WARM_UPS, TRIES = 1, 5
COPIED = {"cpu": 1 << 27, "cuda": 1 << 30}  # bytes; more than any processor cache has
SIDE = {"cpu": 1024, "cuda": 8192}  # side of the square matrices
CALLS = 3  # per try, so that the time to start the work hardly counts


class Floors(NamedTuple):
    """The highest rates of this machine."""

    copy_bytes_per_s: float  # bytes read plus bytes written
    matmul_flops_per_s: float

    def or_better(self, other: Floors) -> Floors:
        """The higher rates of two measurements, since other processes may have slowed one down."""
        return Floors(*map(max, self, other))

    def seconds(self, flops: float = 0.0, moved: float = 0.0) -> float:
        """Lower bound of the time for operations and for bytes read or written, which may overlap [s]."""
        return max(flops / self.matmul_flops_per_s, moved / self.copy_bytes_per_s)


def floors(device: torch.device, dtype: torch.dtype) -> Floors:
    return Floors(copy_bandwidth(device), matmul_rate(device, dtype))


def copy_bandwidth(device: torch.device) -> float:
    """Bytes read plus bytes written per second by a copy within the memory of `device`."""
    source = torch.zeros(COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _best_s(lambda: target.copy_(source), device)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations per second of a product of large square matrices of `dtype`."""
    side = SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    return 2 * side**3 / _best_s(lambda: torch.mm(left, right, out=product), device)


def _best_s(work: Callable[[], object], device: torch.device) -> float:
    def several() -> None:
        for _ in range(CALLS):
            work()

    tries = [timed(several, device) for _ in range(WARM_UPS + TRIES)]
    return min(tries[WARM_UPS:]) / CALLS
