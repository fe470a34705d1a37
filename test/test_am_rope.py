"""AM-RoPE against a naive loop over tokens."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flash_vstream_ros.memory import MergedGrid, prompt_ids, text_start, visual_ids

grids = st.builds(MergedGrid, st.integers(1, 5), st.integers(1, 5))
quarters = st.integers(0, 4000).map(lambda quarter: quarter / 4)
times = st.lists(quarters, max_size=6)


def to_even(time: float) -> int:
    return int(Decimal(time).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def naive(
    prefix: int, suffix: int, dam: list[float], csm: list[float], dam_grid: MergedGrid, csm_grid: MergedGrid, text: int
) -> tuple[list[list[int]], int]:
    """Ids token by token, and the id after the last text token."""
    ids = [[i, i, i] for i in range(prefix)]
    start = prefix
    for block, grid in ((dam, dam_grid), (csm, csm_grid)):
        for time in block:
            for row in range(grid.rows):
                ids += [[start + to_even(time), start + row, start + column] for column in range(grid.columns)]
        if block is dam:
            start += len(dam) * grid.rows * grid.columns
    if text:
        start += 1 + max(text - 1, csm_grid.rows - 1, csm_grid.columns - 1)
    else:
        start = prefix
    ids += [[start + i] * 3 for i in range(suffix)]
    return ids, start + suffix


@given(st.integers(0, 9), st.integers(0, 9), times, times, grids, grids, st.integers(1, 8))
def test_ids_and_delta_equal_the_naive_loop(
    prefix: int,
    suffix: int,
    dam: list[float],
    csm: list[float],
    dam_grid: MergedGrid,
    csm_grid: MergedGrid,
    text_slots: int,
) -> None:
    text_slots = 0 if not csm and not dam else text_slots
    dam_times, csm_times = (torch.tensor(values, dtype=torch.float64) for values in (dam, csm))
    found = prompt_ids(prefix, suffix, dam_times, csm_times, dam_grid, csm_grid, text_slots)
    expected, following = naive(prefix, suffix, dam, csm, dam_grid, csm_grid, text_slots)
    assert found.ids.dtype == torch.int64
    assert found.ids.T.tolist() == expected
    assert found.rope_delta + len(expected) == following
    visual = visual_ids(dam_times, csm_times, dam_grid, csm_grid, prefix)
    assert torch.equal(visual, found.ids[:, prefix : found.ids.shape[1] - suffix])


@pytest.mark.parametrize(("time", "id_"), [(0.5, 0), (1.5, 2), (2.5, 2), (2.5000001, 3), (118.5, 118)])
def test_times_are_rounded_half_to_even(time: float, id_: int) -> None:
    one = MergedGrid(1, 1)
    ids = visual_ids(torch.tensor([time], dtype=torch.float64), torch.zeros(0), one, one, start=0)
    assert ids.tolist() == [[id_], [0], [0]]


def test_sixty_square_slots_use_the_published_tokens_and_ids() -> None:
    dam, csm = MergedGrid(16, 16), MergedGrid(8, 8)
    ids, delta = prompt_ids(15, 4, torch.arange(30.0), torch.arange(60.0), dam, csm, text_slots=60)
    assert ids.shape == (3, 15 + 11_520 + 4)
    assert text_start(30, 60, dam, csm, 15) == 15 + 30 * 256 + 60
    assert ids[:, -1].tolist() == [15 + 30 * 256 + 63] * 3
    assert delta == 60 - 60 * 64


def test_a_prompt_without_visual_tokens_has_text_positions() -> None:
    grid = MergedGrid(2, 2)
    ids, delta = prompt_ids(3, 2, torch.zeros(0), torch.zeros(0), grid, grid, text_slots=0)
    assert ids.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert delta == 0
