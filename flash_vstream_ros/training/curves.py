"""Plots loss and accuracy of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def draw_curves(history: Sequence[tuple[str, int, float, float]], file: Path) -> None:
    """Plot one column per stage. Rows of `history` are stage, step, loss and accuracy (NaN: none)."""
    from matplotlib.figure import Figure

    stages = list(dict.fromkeys(stage for stage, *_ in history))
    if not stages:
        return
    figure = Figure(figsize=(5.5 * len(stages), 4))
    columns = figure.subplots(1, len(stages), squeeze=False)
    for stage, axis in zip(stages, columns[0], strict=True):
        steps, losses, accuracies = np.array([row[1:] for row in history if row[0] == stage], float).T
        axis.plot(steps, losses, color="tab:blue")
        axis.set(title=stage, xlabel="step", ylabel="loss", yscale="log")
        if not np.isnan(accuracies).all():
            right = axis.twinx()
            right.plot(steps, accuracies, color="tab:orange")
            right.set(ylabel="answers without a mistake", ylim=(0, 1))
    figure.tight_layout()
    figure.savefig(file, dpi=80)
