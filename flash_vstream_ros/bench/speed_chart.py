"""Draws the chart of `bench speed`: time to the first token and bytes of the memory over hours of stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

OURS, THEIRS = "tab:blue", "tab:orange"


def draw_speed(result: Mapping[str, Any], file: Path) -> None:
    """Draw the time to the first token, cached and uncached, and the bytes of both our memory and the released one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6))
    latency, size = figure.subplots(1, 2)
    _draw_first_token(latency, result)
    _draw_bytes(size, result)
    for axis in (latency, size):
        axis.grid(axis="y", which="major", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{result['shape']} shape, random weights, {result['dtype']} on {result['device']}", fontsize=10)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def _draw_first_token(axis: Any, result: Mapping[str, Any]) -> None:
    lengths = result["lengths"]
    kinds = (("uncached", "whole prompt (uncached)", THEIRS), ("cached", "with the prefix cache", OURS))
    for kind, label, colour in kinds:
        milliseconds = [1e3 * figures[kind]["first_token_p50_s"] for figures in lengths.values()]
        axis.plot(list(lengths), milliseconds, "o-", color=colour, label=label)
        _annotate(axis, list(lengths)[-1], milliseconds[-1], f"{milliseconds[-1]:.3g} ms", colour)
    axis.set(title="Question to first token", xlabel="length of the stream", ylabel="ms, median", yscale="log")
    axis.legend(loc="center left")


def _draw_bytes(axis: Any, result: Mapping[str, Any]) -> None:
    lengths = list(result["released_bytes"])
    ours = [result["lengths"][each]["memory_bytes"] / 1e6 for each in lengths]
    theirs = [each / 1e6 for each in result["released_bytes"].values()]
    for megabytes, label, colour in ((theirs, "released streaming code", THEIRS), (ours, "this node", OURS)):
        axis.plot(lengths, megabytes, "o-", color=colour, label=label)
        _annotate(axis, lengths[-1], megabytes[-1], f"{megabytes[-1]:,.0f} MB", colour)
    axis.set(title="Memory of the stream", xlabel="length of the stream", ylabel="MB", yscale="log")
    axis.legend(loc="upper left")


def _annotate(axis: Any, x: str, y: float, text: str, colour: str) -> None:
    axis.annotate(text, (x, y), xytext=(0, 7), textcoords="offset points", ha="right", color=colour)
