"""Times work on a device that runs asynchronously to the host, and parts of that work."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def now(device: torch.device) -> float:
    """Wait until all work queued on `device` is done. Returns the time [s]."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Duration of `work`, including the work that it queues on `device` [s]."""
    began = now(device)
    work()
    return now(device) - began


class Stopwatch:
    """Durations by the name of the part [s]."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.parts: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = now(self._device)
        yield
        self.parts[name].append(now(self._device) - began)

    @contextmanager
    def on(self, owner: type, method: str, name: str) -> Iterator[None]:
        """In a `with` block, time every call of a method as the part `name`. Nested calls count for both parts."""
        original = getattr(owner, method)

        def measured(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return original(*args, **kwargs)

        setattr(owner, method, measured)
        try:
            yield
        finally:
            setattr(owner, method, original)

    def means(self, times: int) -> dict[str, float]:
        """Mean duration of each part over `times` repetitions [s]."""
        return {name: sum(durations) / times for name, durations in self.parts.items()}
