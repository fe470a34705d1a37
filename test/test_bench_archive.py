"""The benchmark of the archive, on a small week."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flash_vstream_ros.bench import archive
from flash_vstream_ros.cli import main


def test_a_run_reports_every_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(archive, "DAYS", 3)
    file = tmp_path / "archive.json"
    assert main(["bench", "archive", "--key-frames", "120", "--slots", "4", "--json", str(file)]) == 0
    assert "hours without key frames: 0" in capsys.readouterr().out
    result = json.loads(file.read_text(encoding="utf-8"))
    week, ingest = result["week"], result["ingest"]
    assert 0.5 < week["most_bytes_over_bound"] <= 1.0
    assert week["reported_over_measured"] == 1.0
    assert week["hours_without_key_frames"] == 0
    assert week["kept_per_day"][-1] > week["kept_per_day"][0] >= 24
    assert week["last_day_over_first"] > 0
    assert (ingest["written"], ingest["dropped"]) == (4, 0)
    assert ingest["slot_with_over_without"] > 0
