"""The benchmark of warm memory, on a short stream: its figures are complete and its answers the same both ways."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flash_vstream_ros.bench import prefix_cache as warm
from flash_vstream_ros.cli import main
from flash_vstream_ros.memory import FlashMemoryConfig


def test_cold_and_warm_are_asked_in_turn_and_answer_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(warm, "LENGTHS_S", {"10 min": 40.0, "10 h": 80.0})
    monkeypatch.setattr(warm, "ENCODED", 6)
    monkeypatch.setattr(
        warm, "settings_of", lambda _: (FlashMemoryConfig(csm_slots=5, dam_slots=3), {"max_pixels": 112 * 112})
    )
    file = tmp_path / "warm.json"
    arguments = ["bench", "warm", "--device", "cpu", "--rounds", "2", "--further-slots", "2", "--json", str(file)]
    assert main(arguments) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert "answers warm in the words of cold" in capsys.readouterr().out
    assert result["answers_in_the_same_words"] == result["answers_compared"] == 4
    assert not result["complaints"]
    for figures, slots in zip(result["lengths"].values(), (20, 40), strict=True):
        assert figures["slots"] == slots
        assert figures["memory_tokens"] < figures["cached_tokens"]
        assert figures["warm"]["questions"] == warm.WARM_PER_COLD * figures["cold"]["questions"]
        assert 0 < figures["warm"]["first_token_p50_s"] <= figures["warm"]["first_token_p95_s"]
    ratios = result["ratios"]
    assert set(ratios) >= {"warm_over_cold", "warm_10h_over_10min"}
    assert 0 <= ratios["read_again_stable"] <= 1
    assert 0 <= ratios["read_again_trained"] <= 1


def test_a_model_that_cannot_be_had_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "warm", "--model", "/nowhere"]) == 1
    assert "/nowhere" in capsys.readouterr().err
