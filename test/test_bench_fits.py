"""`bench fits`: the table of what fits is computed from the published sizes, and is the one in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from flash_vstream_ros.bench import fits
from flash_vstream_ros.bench.published import PUBLISHED
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.flash_memory import FlashMemory
from flash_vstream_ros.memory.slot import Slot

DOCUMENT = Path(__file__).parents[1] / "docs" / "models.md"
# Sizes of the files that the hub lists for each model.
PARAMETERS = {
    "Qwen/Qwen2-VL-2B-Instruct": 2_208_985_600,
    "zhang9302002/Flash-VStream-Qwen-7b": 8_291_375_616,
    "Qwen/Qwen2.5-VL-3B-Instruct": 3_754_622_976,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    "Qwen/Qwen3-VL-2B-Instruct": 2_127_532_032,
    "Qwen/Qwen3-VL-4B-Instruct": 4_437_815_808,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
}


@pytest.fixture(scope="module")
def result():
    return fits.run()


def test_published_sizes_give_the_published_parameter_counts(result):
    assert {name: found["parameters"] for name, found in result["models"].items()} == PARAMETERS


def test_the_documented_tables_equal_the_computed_ones(result):
    text = DOCUMENT.read_text(encoding="utf-8")
    for table in fits.table(result).split("\n\n"):
        assert table in text, f"paste the output of `flash-vstream-ros bench fits` into {DOCUMENT}"


def test_the_models_page_lists_every_model_of_the_table():
    text = DOCUMENT.read_text(encoding="utf-8")
    for published in PUBLISHED:
        assert f"`{published.name}`" in text


def test_the_computed_memory_size_equals_the_allocated_tensors():
    sizes, grid, config = fits.Sizes(24, 32, 0, 0), fits.Grid(8, 12), FlashMemoryConfig(csm_slots=6, dam_slots=3)
    need = fits._Need(fits.Weights(0, 0), sizes, grid, config)
    memory = FlashMemory(config)
    low, detail = torch.ones(24, 24, dtype=torch.bfloat16), torch.ones(24, 32, dtype=torch.bfloat16)
    for index in range(12):
        memory.insert(Slot("camera", "", 2 * index, 2 * index + 1, low * (1 + index % 7), detail, grid))
    assert need.memory == memory.bytes
    assert need.tokens == memory.tokens


def test_fewer_bits_or_more_device_memory_never_fit_less(result):
    order = ["no", "memory.tokens", "4bit", "8bit", "bf16"]

    def rank(cell: str) -> int:
        return next(i for i, word in enumerate(order) if word in cell)

    for found in result["models"].values():
        weights = [found["weights"][kind] for kind in ("none", "8bit", "4bit")]
        assert weights == sorted(weights, reverse=True)
        ranks = [rank(found["fits"][str(size)]) for size in fits.MACHINES_GB]
        assert ranks == sorted(ranks)


def test_a_cell_with_a_smaller_memory_names_the_largest_budget_that_fits():
    weights, sizes, grid = fits.Weights(6_000_000_000, 10**9), fits.Sizes(1280, 3584, 57344, 120_000), fits.Grid(24, 36)
    cell = fits._fitting(8, weights, sizes, grid)
    budget = int(re.search(r"(\d+)$", cell)[1])
    need = {
        tokens: fits._Need(weights, sizes, grid, FlashMemoryConfig(tokens=tokens).within_budget(54, 216)).total("4bit")
        for tokens in (budget, budget + fits.BUDGET_STEP)
    }
    assert need[budget] <= 0.9 * 8e9 < need[budget + fits.BUDGET_STEP]
