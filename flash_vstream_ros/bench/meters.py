"""Measures electric power and peak memory, as the machine reports them."""

from __future__ import annotations

import resource
import time

import torch

PERIOD_S = 0.1  # between two readings; the reported value does not change faster


class PowerMeter:
    """Mean power of a device while it works."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._due = 0.0
        self._watts: list[float] = []

    def sample(self) -> None:
        """Read the power if the last reading is old enough."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + PERIOD_S
            watts = power_w(self._device)
            if watts is not None:
                self._watts.append(watts)

    def figures(self) -> dict[str, float]:
        """Mean of the readings [W]; empty if the device reports none."""
        return {"power_w": sum(self._watts) / len(self._watts)} if self._watts else {}


def power_w(device: torch.device) -> float | None:
    """Power of the board now [W]; None if the device does not report it."""
    if device.type != "cuda":
        return None
    try:
        return torch.cuda.power_draw(device) / 1000
    except Exception:  # a missing pynvml and an old driver raise different errors
        return None


def peak_bytes(device: torch.device) -> int:
    """Peak memory [bytes]: on a GPU, of tensors since `reset_peak`; on a CPU, of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak(device: torch.device) -> None:
    """Start the measurement of `peak_bytes` again, on a GPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
