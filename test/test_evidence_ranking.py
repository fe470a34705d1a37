"""The order of evidence by attention, and the weights of attention heads."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from flash_vstream_ros.bench.evidence_heads import Case, fitted_heads, ranking, save_heads
from flash_vstream_ros.engine.answering.evidence_ranking import ranked_by_attention, steadied, strongest_first
from flash_vstream_ros.memory import EntryKind, FlashMemory, FlashMemoryConfig, MemoryEntry, Slot
from flash_vstream_ros.models.evidence_heads import HEADS_KEY, head_weights
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.names import TINY


def entries(stamps: list[int], cameras: str = "") -> list[MemoryEntry]:
    names = cameras or "a" * len(stamps)
    return [MemoryEntry(EntryKind.CSM, name, "", ns, ns, 1.0, b"", ns) for ns, name in zip(stamps, names, strict=True)]


def test_entries_are_ranked_by_attention_and_ties_keep_their_order() -> None:
    some = entries([1, 2, 3, 4, 5])
    assert strongest_first(some, [0.01, 0.5, 0.01, 0.2, 0.02]) == [some[place] for place in (1, 3, 4, 0, 2)]
    assert [share for _, share in ranked_by_attention(some, [0.0] * 5)] == [0.0] * 5
    assert strongest_first(some, [0.0] * 5) == some


def test_the_middle_entry_of_a_moment_has_the_most_attention() -> None:
    at_the_edge = [0.003, 0.02, 0.02, 0.02, 0.02, 0.04, 0.002]
    assert steadied(entries(list(range(7))), at_the_edge) == [0.003, 0.02, 0.02, 0.04, 0.02, 0.02, 0.002]


@pytest.mark.parametrize(
    "attention", [[0.1, 0.01, 0.01], [0.01, 0.1, 0.01], [0.05, 0.02, 0.02], [0.02, 0.02, 0.05], [0.0, 0.0, 0.0]]
)
def test_an_entry_with_half_of_the_attention_of_its_moment_stays_the_strongest(attention: list[float]) -> None:
    assert steadied(entries([1, 2, 3]), attention) == attention


def test_moments_are_of_one_camera_and_in_the_order_of_time() -> None:
    shares = [0.02, 0.04, 0.02, 0.02, 0.0, 0.0]
    assert steadied(entries([2, 1, 3, 4, 5, 6]), shares) == [0.04, 0.02, 0.02, 0.02, 0.0, 0.0]
    assert steadied(entries([2, 1, 3, 4, 5, 6], "abaaaa"), shares) == [0.02, 0.04, 0.02, 0.02, 0.0, 0.0]


def test_flat_attention_is_not_one_moment() -> None:
    draw = torch.Generator().manual_seed(0)
    for _ in range(100):
        shares = (0.02 + 0.015 * torch.rand(30, generator=draw)).tolist()
        assert steadied(entries(list(range(30))), shares) == shares


def test_attention_that_is_not_finite_stays_as_it_is() -> None:
    shares = steadied(entries([1, 2, 3, 4]), [0.1, float("nan"), 0.2, 0.3])
    assert [shares[0], *shares[2:]] == [0.1, 0.2, 0.3]


def test_attention_is_only_exchanged() -> None:
    draw = torch.Generator().manual_seed(0)
    for _ in range(50):
        shares = torch.rand(20, generator=draw).tolist()
        stamps = torch.randperm(20, generator=draw).tolist()
        assert sorted(steadied(entries(stamps, "ab" * 10), shares)) == sorted(shares)


@pytest.mark.parametrize("weights", [None, [1.0] * 5, [1.0, -1.0, 1.0, 1.0], [0.0] * 4, [float("nan")] * 4, "heads"])
def test_unusable_weights_of_heads_count_as_none(weights: object) -> None:
    assert torch.equal(head_weights(SimpleNamespace(**{HEADS_KEY: weights}), 2, 2), torch.full((2, 2), 0.25))


def test_weights_of_heads_sum_to_one() -> None:
    weights = head_weights(SimpleNamespace(**{HEADS_KEY: [0, 1, 3, 0]}), 2, 2)
    assert torch.equal(weights, torch.tensor([[0.0, 0.25], [0.75, 0.0]]))


def synthetic_cases(count: int, seed: int) -> list[Case]:
    """Head 1 of layer 1 attends to the entry that shows the thing; all others to entry 0 or anything.

    The fit must leave out the questions about the order of visits, whose entries are all the others.
    """
    draw = torch.Generator().manual_seed(seed)
    cases = []
    for number in range(count):
        attention = 0.05 * torch.rand(2, 3, 12, generator=draw)
        attention[0, :, 0] += 0.5
        shown = 1 + number % 11
        attention[1, 1, shown] += 0.2
        shows = [place == shown for place in range(12)]
        remembered = tuple(entries([100 * place for place in range(12)]))
        cases.append(Case(attention, shows, remembered, "things"))
        cases.append(Case(attention, [not shows_it for shows_it in shows], remembered, "order"))
    return cases


def test_fitted_heads_find_what_the_mean_over_all_heads_misses(tmp_path: Path) -> None:
    weights, unseen = fitted_heads(synthetic_cases(22, 0)), synthetic_cases(33, 1)
    assert weights.argmax() == 4
    assert ranking(unseen, torch.full((2, 3), 1 / 6))["things"]["precision_at_1"] < 0.1
    assert ranking(unseen, weights)["things"]["precision_at_1"] == 1.0
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_vl"}')
    save_heads(tmp_path, weights)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "qwen2_vl"
    torch.testing.assert_close(head_weights(SimpleNamespace(**saved), 2, 3), weights)


def test_a_model_ranks_entries_by_its_heads_with_weight() -> None:
    model = load_model(TINY, device="cpu")
    features = torch.Generator().manual_seed(0)
    grid = model.grid(56, 56)
    memory = FlashMemory(FlashMemoryConfig(csm_slots=6, dam_slots=2))
    for number in range(8):
        frames = torch.randint(0, 255, (2, 56, 56, 3), generator=features).byte().numpy()
        low, detail = model.encode([*frames], grid)
        memory.insert(Slot("a", "", number * 10**9, number * 10**9 + 1, low, detail, grid))

    def answered() -> tuple[torch.Tensor, torch.Tensor]:
        generation = model.answer(memory.snapshot(), "What is there?", 1)
        generation.prefill(generation.remaining_tokens)
        return generation.head_attention, torch.tensor(generation.attention)

    by_head, mean = answered()
    torch.testing.assert_close(by_head.mean((0, 1)), mean)
    layers, heads = by_head.shape[:2]
    only = [0.0] * (layers * heads)
    only[-1] = 2.0
    setattr(model.network.config, HEADS_KEY, only)
    torch.testing.assert_close(answered()[1], by_head[-1, -1])
