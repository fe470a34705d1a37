"""Draw the figures of `bench speed`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

OURS, THEIRS = "tab:blue", "tab:orange"


def draw_speed(result: Mapping[str, Any], file: Path) -> None:
    """First tokens along the stream, an update and its parts, what is held, and how far all of it is from its floor."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, ((questions, updates), (held, over_floors)) = pyplot.subplots(2, 2, figsize=(13, 9))
    _questions(questions, result)
    _updates(updates, result)
    _held(held, result)
    _over_floors(over_floors, result)
    figure.suptitle(f"{result['shape']}, random weights, {result['dtype']} on {result['device']}")
    figure.tight_layout()
    figure.savefig(file, dpi=100)
    pyplot.close(figure)


def _questions(axis: Any, result: Mapping[str, Any]) -> None:
    lengths = result["lengths"]
    for kind, colour in (("cold", THEIRS), ("warm", OURS)):
        middle = [1e3 * figures[kind]["first_token_p50_s"] for figures in lengths.values()]
        late = [1e3 * figures[kind]["first_token_p95_s"] for figures in lengths.values()]
        floor = [1e3 * result["floors"][f"{kind}_first_token_s"][length] for length in lengths]
        axis.plot(list(lengths), middle, "o-", color=colour, label=f"{kind}, p50")
        axis.plot(list(lengths), late, ":", color=colour, label=f"{kind}, p95")
        axis.plot(list(lengths), floor, "--", color=colour, alpha=0.5, label=f"{kind}, floor")
    axis.set(title="time to the first token", xlabel="stream", ylabel="ms", yscale="log")
    axis.legend(fontsize="small")


def _updates(axis: Any, result: Mapping[str, Any]) -> None:
    """The whole and its parts; the axis is logarithmic, so that the smaller of the two can be seen."""
    for name, colour in (("ours", OURS), ("released", THEIRS)):
        update = result["update"][name]
        rows = {f"{name}: whole": update["p50_s"]}
        rows |= {f"  {name}: {part}": each for part, each in update["parts"].items() if part != "whole"}
        bars = axis.barh(list(rows), [1e3 * each for each in rows.values()], color=colour)
        axis.bar_label(bars, [f"{1e3 * each:.3g}" for each in rows.values()], padding=3, fontsize="small")
    axis.invert_yaxis()
    axis.axvline(1e3 * result["floors"]["update_s"], color=OURS, linestyle="--", alpha=0.5)
    axis.set(title="an update of the memory after 1 h, and its floor", xlabel="ms", xscale="log")
    axis.margins(x=0.15)


def _over_floors(axis: Any, result: Mapping[str, Any]) -> None:
    ratios = {name: each for name, each in result["ratios"].items() if name.endswith("_over_floor")}
    bars = axis.barh([name.removesuffix("_over_floor") for name in ratios], list(ratios.values()), color=OURS)
    axis.bar_label(bars, [f"{each:.3g}" for each in ratios.values()], padding=3, fontsize="small")
    axis.invert_yaxis()
    axis.set(title="time over the floor of this machine", xlabel="times", xscale="log")
    axis.margins(x=0.15)


def _held(axis: Any, result: Mapping[str, Any]) -> None:
    lengths = list(result["released_bytes"])
    axis.plot(
        lengths, [result["lengths"][each]["memory_bytes"] / 1e6 for each in lengths], "o-", color=OURS, label="ours"
    )
    axis.plot(lengths, [each / 1e6 for each in result["released_bytes"].values()], "o-", color=THEIRS, label="released")
    axis.set(title="held of the stream", xlabel="stream", ylabel="MB", yscale="log")
    axis.legend()
