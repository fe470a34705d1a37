"""AM-RoPE: position ids on the axes time, row and column for a prompt of text, [DAM, CSM], text (arXiv 2506.23825).

`start` is the id of the first visual token. The time id of a DAM token is `start` plus the time of its slot. The time
id of a CSM token is `start` plus the number of DAM tokens plus the time of its cluster. The text continues as if CSM
times were 0, 1, 2, ..., so visual ids may exceed the ids of the text after them, as in the training of the
released weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class MergedGrid(NamedTuple):
    """Size of one slot in tokens, after the 2x2 merger."""

    rows: int
    columns: int


class PromptIds(NamedTuple):
    """Ids of a whole prompt; generated token `j` has id `length + j + rope_delta` on all three axes."""

    ids: Tensor  # [3, length] int64
    rope_delta: int


def visual_ids(
    dam_times: Tensor,
    csm_times: Tensor,
    dam_grid: MergedGrid,
    csm_grid: MergedGrid,
    start: int,
    csm_start: int | None = None,
) -> Tensor:
    """Ids [3, visual_tokens] (int64, on the CPU) of the tokens [DAM, CSM], preceded by `start` tokens.

    Times, [dam_slots] and [csm_slots], are in slots since the origin and are rounded half to even. `csm_start` is the
    id of time 0 of CSM; None: the id after these DAM tokens.
    """
    if csm_start is None:
        csm_start = start + len(dam_times) * dam_grid.rows * dam_grid.columns
    return torch.cat([_block_ids(dam_times, dam_grid, start), _block_ids(csm_times, csm_grid, csm_start)], dim=1)


def token_ids(times: Tensor, counts: Sequence[int], places: Tensor, grid: MergedGrid, start: int) -> Tensor:
    """Ids [3, tokens] (int64, on the CPU) of single DAM tokens, the ones that `visual_ids` gives to whole slots.

    `times` [slots] and `counts` are the time and the number of tokens of each slot. `places` [tokens] are the places of
    the tokens in the grids of their slots, row by row.
    """
    slots = _rounded(times).repeat_interleave(torch.tensor(counts, dtype=torch.long))
    return torch.stack([slots, places // grid.columns, places % grid.columns]) + start


def text_start(dam_slots: int, text_slots: int, dam_grid: MergedGrid, csm_grid: MergedGrid, start: int) -> int:
    """First id of the text after the visual tokens.

    `dam_slots` is the number of DAM slots; for `text_slots` see MemorySnapshot.
    """
    if text_slots == 0:
        return start
    csm_start = start + dam_slots * dam_grid.rows * dam_grid.columns
    return csm_start + max(text_slots, csm_grid.rows, csm_grid.columns)


def prompt_ids(
    prefix: int,
    suffix: int,
    dam_times: Tensor,
    csm_times: Tensor,
    dam_grid: MergedGrid,
    csm_grid: MergedGrid,
    text_slots: int,
) -> PromptIds:
    """Ids of `prefix` text tokens, the visual tokens and `suffix` text tokens.

    Times [dam_slots] and [csm_slots] are as in `visual_ids`. `rope_delta` depends on the text ids alone, as published,
    even if visual ids exceed them.
    """
    after = text_start(len(dam_times), text_slots, dam_grid, csm_grid, prefix)
    return _with_text(prefix, visual_ids(dam_times, csm_times, dam_grid, csm_grid, prefix), after, suffix)


def token_prompt_ids(
    prefix: int,
    suffix: int,
    times: Tensor,
    counts: Sequence[int],
    places: Tensor,
    dam_grid: MergedGrid,
    csm_grid: MergedGrid,
    text_slots: int,
) -> PromptIds:
    """Ids as in `prompt_ids` of a memory of single DAM tokens, described as in `token_ids`."""
    after = prefix + len(places) + max(text_slots, csm_grid.rows, csm_grid.columns) if text_slots else prefix
    return _with_text(prefix, token_ids(times, counts, places, dam_grid, prefix), after, suffix)


def _with_text(prefix: int, visual: Tensor, after: int, suffix: int) -> PromptIds:
    """`prefix` text tokens from id 0, visual tokens with the ids `visual`, `suffix` text tokens from the id `after`."""
    ids = torch.cat([_text_ids(0, prefix), visual, _text_ids(after, suffix)], dim=1)
    return PromptIds(ids, after + suffix - ids.shape[1])


def _block_ids(times: Tensor, grid: MergedGrid, start: int) -> Tensor:
    axes = torch.meshgrid(
        _rounded(times),
        torch.arange(grid.rows),
        torch.arange(grid.columns),
        indexing="ij",
    )
    return torch.stack(axes).flatten(1) + start


def _rounded(times: Tensor) -> Tensor:
    return times.detach().double().cpu().round().long()  # torch rounds half to even


def _text_ids(first: int, count: int) -> Tensor:
    return torch.arange(first, first + count).expand(3, count)
