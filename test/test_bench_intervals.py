"""The benchmark of questions about early intervals, on a short patrol and a small memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flash_vstream_ros.bench import intervals
from flash_vstream_ros.cli import main


def test_a_run_reports_every_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(intervals, "MEMORY", replace(intervals.MEMORY, csm_slots=8, dam_slots=2))
    file = tmp_path / "intervals.json"
    assert main(["bench", "intervals", "--minutes", "5", "--interval", "1", "--json", str(file)]) == 0
    assert "from archived key frames" in capsys.readouterr().out
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["key_frames"] > 30
    assert result["archive"]["questions"] == result["live memory"]["questions"] > 0
    assert 0 < result["archive"]["from_archive"] <= result["archive"]["questions"]
    assert result["live memory"]["from_archive"] == 0
    assert 0 <= result["archive"]["right"] <= 1.0
    assert result["archive"]["searches"] == result["live memory"]["searches"] > 0
    assert 0 <= result["archive"]["found"] <= 1.0
    whole = result["whole archive"]
    assert whole["searches"] == result["whole live memory"]["searches"] > 0
    assert 0 <= whole["found"] <= 1.0
