"""The benchmark of retention: rare events, the distance that counts as near, and the policies compared."""

from __future__ import annotations

import itertools

import pytest
import torch

from flash_vstream_ros.bench import rare_events, retention
from flash_vstream_ros.bench.distortion import hierarchical_distortion, robot_stream
from flash_vstream_ros.bench.rare_events import add_events, nearest


def test_events_last_two_static_slots_and_do_not_overlap() -> None:
    slots = robot_stream(1500, 3, patches=4, dim=16)
    before = slots.clone()
    events = add_events(slots, 4, seed=3)
    changed = (slots != before).any(1).nonzero().flatten().tolist()
    assert changed == sorted(slot for event in events for slot in (event.first, event.first + 1))
    firsts = [event.first for event in events]
    assert min(b - a for a, b in itertools.pairwise(firsts)) >= rare_events.MIN_DISTANCE
    assert {event.kind for event in events} == {"object", "passer-by"}
    for event in events:
        torch.testing.assert_close(slots[event.first] - before[event.first], event.offset)


def test_the_nearest_entry_has_the_smallest_distance() -> None:
    rows, entries = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [0.0, 4.0]])
    assert nearest(rows, entries).tolist() == pytest.approx([0.0, 9.0])
    assert nearest(rows, entries[:0]).tolist() == [float("inf")] * 2


def test_one_cluster_per_slot_has_zero_distortion() -> None:
    slots = robot_stream(20, 0, patches=4, dim=8)
    assert hierarchical_distortion(slots, 20, 4) == pytest.approx(0.0, abs=1e-2)
    mean = float((slots - slots.mean(0)).square().sum())
    assert hierarchical_distortion(slots, 1, 4) == pytest.approx(mean, rel=1e-4)


def test_all_policies_are_compared_at_every_age(capsys: pytest.CaptureFixture) -> None:
    result = retention.run([80], [0], capacity=6, hours=[0.45, 0.6], patches=4, dim=8)
    rare = result["rare"]
    assert set(rare["policies"]) == {
        "hierarchical",
        "hierarchical, second look",
        "hierarchical, stored",
        "published",
        *rare_events.COMPARED,
        "last 4 frames",
    }
    for name, row in rare["policies"].items():
        assert list(row) == rare["ages"] == ["0.45 h", "0.6 h"]
        assert all(0 <= cell[kind] <= 1 for cell in row.values() for kind in rare_events.SHARES), name
    second, first = rare["policies"]["hierarchical, second look"], rare["policies"]["hierarchical"]
    stored = rare["policies"]["hierarchical, stored"]
    for age in rare["ages"]:
        assert stored[age]["object"] >= second[age]["object"] >= first[age]["object"]
        assert stored[age]["mean"] < first[age]["mean"]
        assert first[age]["mean"] < rare["policies"]["last 4 frames"][age]["mean"]
    assert 1 < rare["bytes"]["hierarchical"] / rare["bytes"]["published"] <= 4
    retention.show(result)
    assert "last 4 frames" in capsys.readouterr().out
