"""Computes lower bounds and ratios from the figures of `bench speed`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flash_vstream_ros.memory.config import MERGED_PATCHES, FlashMemoryConfig
from flash_vstream_ros.memory.slot import Grid

from . import costs
from .floors import Floors

SHORT, HOUR, LONG = "10 min", "1 h", "10 h"


def floor_times(
    best: Floors, network: Any, grid: Grid, config: FlashMemoryConfig, tokens: Mapping[str, int]
) -> dict[str, Any]:
    """Lower bounds [s] of the times for a slot of `grid`, an update, and first tokens after `tokens` visual tokens."""
    text, vision, itemsize = network.config.text_config, network.config.vision_config, network.dtype.itemsize
    merged = grid.height * grid.width // MERGED_PATCHES
    update = costs.update_bytes(config, merged * vision.embed_dim, merged * text.hidden_size, itemsize)
    slot_flops, slot_bytes = costs.slot_flops(vision, grid), costs.slot_bytes(vision, itemsize)
    one = {length: costs.pass_bytes(text, count, itemsize) for length, count in tokens.items()}
    return {
        "slot_s": best.seconds(slot_flops, slot_bytes + update),
        "update_s": best.seconds(moved=update),
        "cached_first_token_s": {length: best.seconds(moved=moved) for length, moved in one.items()},
        "uncached_first_token_s": {
            length: best.seconds(costs.prefill_flops(text, count), one[length]) for length, count in tokens.items()
        },
    }


def absolutes(result: Mapping[str, Any]) -> dict[str, float]:
    """Absolute figures, for criteria that hold on a certain machine."""
    long = result["lengths"][LONG]
    return {
        "cached_first_token_s": long["cached"]["first_token_p50_s"],
        "uncached_first_token_s": long["uncached"]["first_token_p50_s"],
        "frames_per_s": result["ingest"]["frames_per_s"],
    }


def headline(result: Mapping[str, Any]) -> dict[str, float]:
    """The ratios of a run. Times are medians; `..._over_floor` is a time over its lower bound."""
    lengths, update, transfers = result["lengths"], result["update"], result["update_transfer_bytes"]
    cached, uncached = (
        {length: figures[kind]["first_token_p50_s"] for length, figures in lengths.items()}
        for kind in ("cached", "uncached")
    )
    parts = update["released"]["parts"]
    ours, released = update["ours"]["p50_s"], update["released"]["p50_s"]
    return {
        "cached_over_uncached": cached[LONG] / uncached[LONG],
        "second_look_over_uncached": result["second_look"]["second_look_first_token_p50_s"]
        / result["second_look"]["uncached_first_token_p50_s"],
        "cached_10h_over_10min": cached[LONG] / cached[SHORT],
        "update_speedup_over_released": released / ours,
        "update_speedup_without_merger": released / ours * (1 - parts["merger"] / parts["whole"]),
        "cached_over_released_question": cached[HOUR] / result["released_question"]["p50_s"],
        "traffic_over_released": (result["frame_bytes"] + transfers["ours"])
        / (result["frame_bytes"] + transfers["released"]),
        "memory_10h_over_10min": lengths[LONG]["memory_bytes"] / lengths[SHORT]["memory_bytes"],
        "released_memory_10h_over_10min": result["released_bytes"][LONG] / result["released_bytes"][SHORT],
        "static_over_moving": result["static_over_moving"],
        "ingest_over_floor": result["ingest"]["slot_s"] / result["floors"]["slot_s"],
        "decode_over_floor": result["decode"]["token_s"] / result["decode"]["floor_s"],
        "cached_over_floor": cached[LONG] / result["floors"]["cached_first_token_s"][LONG],
        "uncached_over_floor": uncached[LONG] / result["floors"]["uncached_first_token_s"][LONG],
        "update_over_floor": ours / result["floors"]["update_s"],
    }
