"""The benchmark of ingest on a small memory: counts and comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flash_vstream_ros.bench import ingest
from flash_vstream_ros.bench.ingest import Timed, resting, slowed
from flash_vstream_ros.cli import main
from flash_vstream_ros.memory import FlashMemoryConfig


def test_a_run_reports_every_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = FlashMemoryConfig(csm_slots=5, dam_slots=3), {"max_pixels": 112 * 112}
    monkeypatch.setattr(ingest, "settings_of", lambda _: settings)
    monkeypatch.setattr(ingest, "IMAGES", 8)
    monkeypatch.setattr(ingest, "ALONE_SLOTS", 8)
    file = tmp_path / "ingest.json"
    assert main(["bench", "ingest", "--device", "cpu", "--seconds", "2", "--json", str(file)]) == 0
    assert "a static slot costs" in capsys.readouterr().out
    result = json.loads(file.read_text(encoding="utf-8"))
    assert 0 < result["static_over_moving"] < 1
    assert result["frames_per_s"] > 0
    asked = result["while_asked"]
    assert asked["questions"] > 0
    assert asked["ingested"] > 0
    assert asked["age_p95_slots"] > 0
    assert 0 < asked["slower_p50"] <= asked["slower_p95"] <= asked["slower_max"]
    assert 0 <= asked["slow_share"] <= 1


def test_latencies_are_compared_by_question_and_cache_state() -> None:
    alone = [
        Timed("where", 1.0, True),
        Timed("where", 3.0, True),
        Timed("where", 10.0, False),
        Timed("when", 4.0, True),
    ]
    meanwhile = [
        Timed("where", 2.0, True),
        Timed("where", 20.0, False),
        Timed("when", 4.4, True),
        Timed("who", 9.0, True),
    ]
    found = slowed(alone, meanwhile)
    assert found["slower_p50"] == pytest.approx(1.1)
    assert found["slower_max"] == pytest.approx(2.0)
    assert found["slow_share"] == pytest.approx(1 / 3)


def test_static_images_differ_by_noise_only() -> None:
    image = np.full((64, 64, 3), 128, np.uint8)
    views = resting(image, 3)
    assert len(views) == 3
    assert not np.array_equal(views[0], views[1])
    assert all(abs(float(view.mean()) - 128) < 1 for view in views)
    assert all(abs(float(view.std()) - ingest.GRAIN) < 0.2 for view in views)
