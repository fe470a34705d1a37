"""Draws the losses of a fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .trainer import Point


def draw_losses(points: Sequence[Point], file: Path) -> None:
    """Plot the loss of the training steps, and that of the held-out questions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4))
    axis = figure.subplots()
    trained = [(point.step, point.loss) for point in points if point.loss is not None]
    held_out = [(point.step, point.held_out_loss) for point in points if point.held_out_loss is not None]
    axis.plot(*zip(*trained, strict=True), color="tab:blue", label="training")
    if held_out:
        axis.plot(*zip(*held_out, strict=True), color="tab:orange", marker="o", label="held out")
    axis.set(xlabel="step", ylabel="loss", yscale="log")
    axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=80)
