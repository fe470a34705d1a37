"""The benchmark of decoding: complete figures, kernels with equal results, and questions to new processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flash_vstream_ros.bench import decoding
from flash_vstream_ros.cli import main
from flash_vstream_ros.memory import FlashMemoryConfig

pytestmark = pytest.mark.slow  # runs benchmarks


def test_the_table_has_times_floors_gains_and_first_questions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        decoding, "settings_of", lambda _: (FlashMemoryConfig(csm_slots=5, dam_slots=3), {"max_pixels": 112 * 112})
    )
    monkeypatch.setattr(decoding, "LAYERS", {"small": (4, 2, 16, 200)})
    file = tmp_path / "decoding.json"
    assert main(["bench", "decoding", "--device", "cpu", "--rounds", "2", "--fresh", "1", "--json", str(file)]) == 0
    assert "decode_over_floor" in capsys.readouterr().out
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["ratios"]["decode_over_floor"] == result["decoding"]["token_s"] / result["decoding"]["floor_s"]
    assert result["tokens_per_s"] == 1 / result["decoding"]["token_s"]
    with_s, without_s = result["evidence"]["with_s"], result["evidence"]["without_s"]
    assert result["ratios"]["first_token_with_evidence_over_without"] == with_s / without_s > 0
    assert abs(result["ratios"]["answer_with_evidence_over_without"] - 1) < abs(with_s / without_s - 1)
    assert set(result["layers"]) == {"small, float32", "small, bfloat16"}
    for gains in result["layers"].values():
        assert set(gains) == {"token", "evidence", "question"}
        assert all(gain["over_plain"] > 0 for gain in gains.values())
    assert all(gain["largest_difference"] < 1e-5 for gain in result["layers"]["small, float32"].values())
    for kind, (times,) in result["first_questions_s"].items():
        assert len(times) == 10
        assert result["ratios"][f"first_over_tenth_{kind}_warm_up"] == times[0] / times[-1]
