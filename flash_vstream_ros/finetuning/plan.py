"""Settings of a fine-tuning. Defaults are those of the released Flash-VStream-Qwen, as far as they are published."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _setting(default: float, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class Plan:
    """Settings that determine the result; a run is only resumed with equal ones."""

    held_out: float = _setting(0.1, "share of the questions that are not trained on")
    epochs: float = _setting(1.0, "passes through the questions")
    learning_rate: float = _setting(8e-4, "peak of the learning rate, which follows a cosine")
    warmup: float = _setting(0.01, "share of the steps in which the learning rate rises")
    weight_decay: float = _setting(0.1, "weight decay of AdamW")
    batch: int = _setting(64, "questions in a step, on all devices together")
    device_batch: int = _setting(1, "questions that a device computes at once")
    rank: int = _setting(64, "rank of LoRA")
    alpha: float = _setting(32.0, "alpha of LoRA: its update is scaled by alpha / rank")
    dropout: float = _setting(0.05, "dropout of LoRA")
    save_steps: int = _setting(10, "steps between two saves, from which an interrupted run is resumed")
    seed: int = _setting(0, "seed of the split, the order, the initial weights and the dropout")

    def accumulation(self, processes: int) -> int:
        """Passes whose gradients are added for a step. Raises ValueError if the batch cannot be divided so."""
        at_once = self.device_batch * processes
        if self.batch % at_once:
            raise ValueError(
                f"--batch is {self.batch}, no multiple of {at_once}, which {processes} processes with --device-batch "
                f"{self.device_batch} compute at once"
            )
        return self.batch // at_once
