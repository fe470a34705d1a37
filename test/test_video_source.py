"""Video files: presentation times, shape and orientation as a player shows them, and reports of missing frames."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from video_files import corner_image, turn_video, write_video

from flash_vstream_ros.cli.sources import SECOND, SourceError, open_source
from flash_vstream_ros.cli.video_answer import at_rate

SHARED = Path(__file__).parents[2] / "shared" / "data"
UNEVEN_MS = (0, 100, 200, 900, 1500, 4000, 9000)
EVEN_MS = tuple(range(0, 3000, 100))


def red_corner(rgb: np.ndarray) -> str:
    """The corner in which the red quarter is."""
    height, width = rgb.shape[:2]
    corners = {
        f"{vertical} {horizontal}": rgb[y, x]
        for vertical, y in (("upper", height // 4), ("lower", 3 * height // 4))
        for horizontal, x in (("left", width // 4), ("right", 3 * width // 4))
    }
    return max(corners, key=lambda name: int(corners[name][0]) - int(corners[name][1]))


@pytest.mark.parametrize(
    ("name", "codec"), [("v.mp4", "mpeg4"), ("v.mkv", "mpeg4"), ("v.webm", "libvpx"), ("v.avi", "mjpeg")]
)
def test_variable_frame_rate_keeps_presentation_times(tmp_path: Path, name: str, codec: str) -> None:
    """MKV and WebM state no frame count, and AVI counts the gaps as frames: none of it is a loss."""
    source = open_source(str(write_video(tmp_path / name, UNEVEN_MS, codec)), base_ns=7 * SECOND)
    assert [frame.stamp_ns - 7 * SECOND for frame in source] == [time * 1_000_000 for time in UNEVEN_MS]
    assert source.skipped == 0
    assert source.constant_fps is None
    assert [frame.stamp_ns for frame in at_rate(source, 1.0)] == [n * SECOND for n in (7, 8.5, 11, 16)]


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "mpeg4"), ("v.mkv", "mpeg4"), ("v.avi", "mjpeg")])
def test_constant_frame_rate_is_recognised(tmp_path: Path, name: str, codec: str) -> None:
    source = open_source(str(write_video(tmp_path / name, EVEN_MS, codec)))
    assert source.constant_fps == pytest.approx(10.0, rel=1e-3)
    assert [frame.stamp_ns for frame in source] == [time * 1_000_000 for time in EVEN_MS]
    assert [frame.stamp_ns for frame in at_rate(source, 1.0)] == [0, SECOND, 2 * SECOND]
    assert source.skipped == 0


def test_a_longer_sound_track_is_not_reported_as_missing_frames(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "v.mkv", EVEN_MS, audio_s=6.0)))
    assert (len(list(source)), source.skipped) == (len(EVEN_MS), 0)


def test_times_are_relative_to_the_first_frame(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "v.mkv", (500, 600, 900))))
    assert [frame.stamp_ns for frame in source] == [0, SECOND // 10, 2 * SECOND // 5]


@pytest.mark.parametrize(("aspect", "shape"), [(Fraction(2), (48, 128)), (Fraction(1, 2), (96, 64)), (None, (48, 64))])
def test_sample_aspect_ratio_is_honoured(tmp_path: Path, aspect: Fraction | None, shape: tuple[int, int]) -> None:
    frame = next(iter(open_source(str(write_video(tmp_path / "v.mp4", (0, 100), aspect=aspect)))))
    assert frame.rgb.shape == (*shape, 3)
    assert red_corner(frame.rgb) == "upper left"


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((1, 0, 0, 1), "upper left"),
        ((0, 1, -1, 0), "upper right"),  # 90 degrees clockwise
        ((-1, 0, 0, -1), "lower right"),
        ((0, -1, 1, 0), "lower left"),
        ((-1, 0, 0, 1), "upper right"),  # mirrored
        ((1, 0, 0, -1), "lower left"),
        ((0, 1, 1, 0), "upper left"),
    ],
)
def test_frames_are_rotated_by_the_display_matrix(
    tmp_path: Path, matrix: tuple[int, int, int, int], corner: str
) -> None:
    path = turn_video(write_video(tmp_path / "v.mp4", (0, 100, 200)), matrix)
    frames = list(open_source(str(path)))
    assert {frame.rgb.shape for frame in frames} == {(48, 64, 3) if matrix[0] else (64, 48, 3)}
    assert {red_corner(frame.rgb) for frame in frames} == {corner}


def test_a_truncated_video_reports_the_number_of_missing_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", EVEN_MS, "mjpeg")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    source = open_source(str(path))
    frames = len(list(source))
    assert 3 < frames < 27
    assert abs(frames + source.skipped - len(EVEN_MS)) <= 1


def test_damaged_packets_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", EVEN_MS, "mjpeg")
    data = bytearray(path.read_bytes())
    starts = [at for at in range(len(data) - 4) if data[at : at + 3] == b"\xff\xd8\xff"]
    for start, end in pairwise(starts[3:8]):
        data[start : end - 8] = bytes(end - 8 - start)  # but for the head of the next chunk
    path.write_bytes(data)
    source = open_source(str(path))
    assert len(list(source)) == len(EVEN_MS) - 4
    assert source.skipped == 4


def test_a_frame_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    from flash_vstream_ros.cli.sources.video import VideoSource

    path = write_video(tmp_path / "v.mp4", (0, 100))
    with pytest.raises(SourceError, match="64x48"):
        VideoSource(path, 0.0, 0, max_pixels=64 * 47)
    assert len(list(VideoSource(path, 0.0, 0, max_pixels=64 * 48))) == 2
    wide = write_video(tmp_path / "w.mp4", (0, 100), aspect=Fraction(4))
    with pytest.raises(SourceError, match="256x48"):
        list(VideoSource(wide, 0.0, 0, max_pixels=64 * 48))


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    secret = write_video(tmp_path / "secret.mp4", (0, 100))
    (tmp_path / "v.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n")
    (tmp_path / "v.txt").write_text(f"ffconcat version 1.0\nfile '{secret}'\n")
    for name in ("v.m3u8", "v.txt"):
        with pytest.raises(SourceError, match="no video"):
            open_source(str(tmp_path / name))


@pytest.mark.parametrize("content", [b"", b"not a video\n" * 100, bytes(range(256)) * 100])
def test_a_non_video_file_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(SourceError, match="no video"):
        open_source(str(tmp_path / "v.mp4"))


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    for name in ("v.mp4", "v.mcap", "v.png"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(SourceError, match="neither a file nor a folder"):
            open_source(str(tmp_path / name))
    with pytest.raises(SourceError, match="has no images"):
        open_source(str(tmp_path))


def test_replay_says_how_many_frames_are_missing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", EVEN_MS, "mjpeg")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    command = [sys.executable, "-m", "flash_vstream_ros.cli", "replay", str(path), "--rate", "0", "--wait", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "frames could not be decoded" in done.stdout


@pytest.mark.skipif(not SHARED.exists(), reason="recorded data is not here")
@pytest.mark.parametrize(("name", "frames", "last_s"), [("vtest.avi", 795, 79.4), ("tree.avi", 68, 29.533)])
def test_a_recorded_video_is_read_to_its_end(name: str, frames: int, last_s: float) -> None:
    """tree.avi has 444 frame slots of which 68 hold a frame."""
    source = open_source(str(SHARED / name))
    stamps = [frame.stamp_ns for frame in source]
    assert (len(stamps), source.skipped) == (frames, 0)
    assert stamps == sorted(set(stamps))
    assert stamps[-1] / SECOND == pytest.approx(last_s, abs=0.01)


def test_decoded_frames_keep_their_colours(tmp_path: Path) -> None:
    frames = list(open_source(str(write_video(tmp_path / "v.mp4", EVEN_MS))))
    for index, frame in enumerate(frames):
        assert np.abs(frame.rgb.astype(int) - corner_image(index % 12)).mean() < 6
