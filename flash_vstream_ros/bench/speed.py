"""Times all stages on this machine, and compares them with lower bounds and with the released procedure.

A run uses random weights with a published shape. It times frame ingest, memory updates, cached and uncached questions
during a stream of 10 h, and decoding. Lower bounds follow from measured rates of copying and matrix products. The
released streaming procedure runs on the same slots.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import torch

from flash_vstream_ros.memory import FlashMemoryConfig
from flash_vstream_ros.models.load import choose_device
from flash_vstream_ros.models.names import TINY
from flash_vstream_ros.models.preprocess import MAX_PIXELS, Preprocessor

from .camera_ingest import ingest_costs
from .criteria import evaluated
from .decoding import decode_over_floor
from .floors import floors
from .ingest import static_over_moving
from .long_stream import HOUR, LENGTHS_S, Source, against_released, ask_memories, memories_along
from .meters import peak_bytes, reset_peak
from .prefix_cache import SIDE, patrol_images
from .ratios import LONG, absolutes, floor_times, headline
from .second_look import first_tokens
from .shapes import DEFAULT_SHAPE, check_free_memory, dtype_of, need, shape_of, shaped_model
from .speed_chart import draw_speed
from .speed_table import lines

MEMORY = FlashMemoryConfig()
PIXELS = MAX_PIXELS  # largest area of a frame
HIERARCHICAL_MEMORIES = 4  # a hierarchical memory takes at most as much as this many published ones
SECOND_LOOK_SLOTS = 300  # more slots than a hierarchical memory stores clusters


def run(
    shape: str = DEFAULT_SHAPE,
    device: str = "auto",
    rounds: int = 5,
    updates: int = 12,
    slots: int = 30,
    chart: Path | None = None,
) -> dict[str, Any]:
    """Time `rounds` uncached questions at each length, `updates` of each procedure, and `slots` from a camera.

    Raises ModelError, before anything is allocated, if the shape is unknown or needs too much memory.
    """
    shape, chosen = shape_of(shape), choose_device(device)
    dtype, grid = dtype_of(shape, chosen), Preprocessor(max_pixels=PIXELS).grid(SIDE, SIDE)
    bank_slots = int(LENGTHS_S[HOUR] * 1e9 / MEMORY.slot_period_ns) + updates
    kept = len(LENGTHS_S) + HIERARCHICAL_MEMORIES
    check_free_memory(shape, chosen, need(shape, dtype, grid, MEMORY, bank_slots, memories=kept))
    model = shaped_model(shape, device, PIXELS)
    reset_peak(chosen)
    best, shown = floors(chosen, dtype), patrol_images(MEMORY.slot_period_ns * 1e-9)
    ingest = ingest_costs(model, MEMORY, shown, slots)
    static = static_over_moving(model, TINY, rounds=slots)  # TINY selects the node's default memory
    source = Source.of(model, shown, MEMORY)
    memories = memories_along(source)
    lengths = ask_memories(model, memories, rounds)
    second_look = first_tokens(model, islice(source.slots(), SECOND_LOOK_SLOTS), MEMORY, rounds)
    decoded = decode_over_floor(model, memories[LONG].snapshot(), best.copy_bytes_per_s)
    own_peak = peak_bytes(chosen)
    result: dict[str, Any] = {
        "shape": shape,
        "device": _name(chosen),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "ingest": ingest,
        "static_over_moving": static,
        "lengths": lengths,
        "second_look": second_look,
        "decode": {"token_s": decoded.token_s, "bytes_read": decoded.bytes_read, "tokens_per_s": 1 / decoded.token_s},
        "weight_bytes": sum(parameter.nbytes for parameter in model.network.parameters()),
        "peak_bytes": own_peak,
        **against_released(source, memories[HOUR], updates, rounds),
        "frame_bytes": 2 * shown[0].nbytes,
    }
    best = best.or_better(floors(chosen, dtype))  # the machine may have been busy at the first measurement
    result["machine"] = best._asdict()
    tokens = {length: figures["memory_tokens"] for length, figures in lengths.items()}
    result["decode"]["floor_s"] = best.seconds(moved=decoded.bytes_read)
    result["floors"] = floor_times(best, model.network, grid, MEMORY, tokens)
    result["ratios"] = headline(result)
    on_large = shape == "qwen2-vl-7b" and chosen.type == "cuda"
    result["criteria"] = evaluated(absolutes(result) | result["ratios"], on_large)
    if chart:
        draw_speed(result, chart)
    return result


def show(result: dict[str, Any]) -> None:
    print("\n".join(lines(result)))


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
