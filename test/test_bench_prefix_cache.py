"""The benchmark of the prefix cache, on a short stream: complete figures, and cached answers equal uncached ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flash_vstream_ros.bench import prefix_cache as cached
from flash_vstream_ros.cli import main
from flash_vstream_ros.memory import FlashMemoryConfig


def test_cached_and_uncached_questions_alternate_and_have_equal_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cached, "LENGTHS_S", {"10 min": 40.0, "10 h": 80.0})
    monkeypatch.setattr(cached, "ENCODED", 6)
    monkeypatch.setattr(
        cached, "settings_of", lambda _: (FlashMemoryConfig(csm_slots=5, dam_slots=3), {"max_pixels": 112 * 112})
    )
    file = tmp_path / "cached.json"
    options = ["--device", "cpu", "--rounds", "2", "--further-slots", "2", "--json", str(file)]
    assert main(["bench", "prefix-cache", *options]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert "cached answers have the words of the uncached ones" in capsys.readouterr().out
    assert result["answers_in_the_same_words"] == result["answers_compared"] == 4
    assert not result["warnings"]
    for figures, slots in zip(result["lengths"].values(), (20, 40), strict=True):
        assert figures["slots"] == slots
        assert figures["memory_tokens"] < figures["cached_tokens"]
        assert figures["cached"]["questions"] == cached.CACHED_PER_UNCACHED * figures["uncached"]["questions"]
        assert 0 < figures["cached"]["first_token_p50_s"] <= figures["cached"]["first_token_p95_s"]
    ratios = result["ratios"]
    assert set(ratios) >= {"cached_over_uncached", "cached_10h_over_10min", "search_over_cached"}
    assert 0 <= ratios["prefilled_again_stable"] <= 1
    assert 0 <= ratios["prefilled_again_trained"] <= 1


def test_a_model_that_fails_to_load_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "prefix-cache", "--model", "/nowhere"]) == 1
    assert "/nowhere" in capsys.readouterr().err
