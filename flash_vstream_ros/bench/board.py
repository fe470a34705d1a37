"""Electric power and peak memory of the machine, as it reports them."""

from __future__ import annotations

import resource
import time

import torch

PERIOD_S = 0.1  # between two looks: the board's own figure changes no faster


class PowerMeter:
    """Looks while the device works."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._due = 0.0
        self._watts: list[float] = []

    def look(self) -> None:
        """Takes a reading where the last one is old enough."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + PERIOD_S
            watts = power_w(self._device)
            if watts is not None:
                self._watts.append(watts)

    def figures(self) -> dict[str, float]:
        """Mean of the readings; nothing where there are none."""
        return {"power_w": sum(self._watts) / len(self._watts)} if self._watts else {}


def power_w(device: torch.device) -> float | None:
    """Of the board now [W]; None where it is not told."""
    if device.type != "cuda":
        return None
    try:
        return torch.cuda.power_draw(device) / 1000
    except Exception:  # without pynvml, without a driver that tells: each fails in its own way
        return None


def peak_bytes(device: torch.device) -> int:
    """The most memory so far: of tensors on a GPU, since `forget_peak`; of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
