"""`flash-vstream-ros archive`: listing, and a bag that this package reads."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from archive_writer import Writer, frames_in
from tiny_engine import SECOND, image

from flash_vstream_ros.cli import main
from flash_vstream_ros.cli.sources import open_source
from flash_vstream_ros.engine.contact_sheet import COLUMNS, GAP, SIDE

HOUR = 3600
START = 400_000 * HOUR  # s


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive")
    writer = Writer(path)
    for number in range(1, 13):
        writer.insert(START + number * HOUR / 4, camera="left" if number % 2 else "right", seed=number)
    writer.close()
    return path


def test_hours_are_listed_with_counts_and_bytes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["archive", "--path", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[line.split().index("key") - 1] for line in lines[:-1]] == ["2", "1", "2", "2", "2", "2", "1"]
    assert lines[-1].startswith("(12 key frames, ")
    assert main(["archive", "--path", str(folder), "--camera", "left", "--since", str(START + HOUR)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("(4 key frames, ")


def test_an_exported_bag_is_read_as_a_recording(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "left.mcap"
    options = ["--camera", "left", "--until", "-30min", "--export", str(out)]
    assert main(["archive", "--path", str(folder), *options]) == 0
    source = open_source(str(out), bag_topic="/left/image/compressed")
    assert source.frame_id == "optical"
    frames = list(source)
    assert [frame.stamp_ns for frame in frames] == [
        frame.stamp_ns
        for frame in frames_in(folder)
        if frame.camera == "left" and frame.stamp_ns <= (START + 2.5 * HOUR) * SECOND
    ]
    errors = [np.abs(frames[1].rgb.astype(float) - image(number, (48, 64))).mean() for number in range(1, 13)]
    assert int(np.argmin(errors)) + 1 == 3
    assert out.stat().st_mode & 0o777 == 0o600
    assert [*tmp_path.iterdir()] == [out]


def test_an_export_has_a_topic_for_each_camera(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.mcap"
    assert main(["archive", "--path", str(folder), "--export", str(out)]) == 0
    for camera in ("left", "right"):
        assert len(list(open_source(str(out), bag_topic=f"/{camera}/image/compressed"))) == 6


def test_a_contact_sheet_shows_the_key_frames(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    assert main(["archive", "--path", str(folder), "--camera", "left", "--sheet", str(out)]) == 0
    sheet = cv2.imread(str(out))
    cells = [sheet[GAP : GAP + SIDE, GAP + n * (SIDE + GAP) : (n + 1) * (SIDE + GAP)] for n in range(COLUMNS)]
    assert [float(cell.std()) > 30 for cell in cells] == [True] * 6 + [False] * 4


def test_nothing_to_read_is_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["archive", "--path", str(tmp_path)]) == 1
    assert "archive.max_gib" in capsys.readouterr().err
    out = tmp_path / "none.mcap"
    assert main(["archive", "--path", str(folder), "--camera", "roof", "--export", str(out)]) == 1
    assert "no key frame matches" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(SystemExit, match="2"):
        main(["archive", "--path", str(folder), "--export", "frames.bag"])
    (tmp_path / "archive.sqlite").write_bytes(b"SQLite format 3\0" + bytes(5000))
    assert main(["archive", "--path", str(tmp_path)]) == 1
    assert str(tmp_path / "archive.sqlite") in capsys.readouterr().err
