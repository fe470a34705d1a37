"""Folders of image files: which are read, in which order, and their pixels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from video_files import corner_image

from flash_vstream_ros.cli.sources import SECOND, SourceError, open_source
from flash_vstream_ros.cli.sources.image_folder import natural_order

APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(80)
ORIENTATION = 274


def grey_level(rgb: np.ndarray) -> int:
    height, width = rgb.shape[:2]
    return round(float(rgb[height // 2 :, width // 2 :].mean()) / 20)


def write_image(path: Path, level: int) -> None:
    cv2.imwrite(str(path), corner_image(level)[..., ::-1])


def claimed_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    body = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def test_images_come_in_natural_order_and_a_bad_one_leaves_a_gap(tmp_path: Path) -> None:
    for index in (10, 2, 1, 9):
        write_image(tmp_path / f"frame{index}.png", index)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "frame3.png").write_bytes(b"broken")
    source = open_source(str(tmp_path), fps=4.0)
    frames = list(source)
    assert [grey_level(f.rgb) for f in frames] == [1, 2, 9, 10]
    assert [f.stamp_ns for f in frames] == [0, SECOND // 4, 3 * SECOND // 4, SECOND]
    assert (source.skipped, source.frames) == (1, 5)
    assert frames[0].rgb[4, 4].tolist() == [220, 30, 30]


def test_hidden_files_are_skipped(tmp_path: Path) -> None:
    for index in range(3):
        write_image(tmp_path / f"{index}.jpg", index)
        (tmp_path / f"._{index}.jpg").write_bytes(APPLE_DOUBLE)
    source = open_source(str(tmp_path))
    assert [frame.stamp_ns for frame in source] == [0, SECOND // 10, SECOND // 5]
    assert source.skipped == 0


@pytest.mark.parametrize(
    "names",
    [
        ("frame9.png", "frame10.png", "frame100.png"),
        ("1²3.png", "1²4.png"),
        ("bild٩.png", "bild١٠.png"),  # Arabic-Indic 9 and 10
        ("1700000000.123.png", "1700000000.25.png", "1700000000.5.png"),
        ("v1.9.png", "v1.10.png"),
        ("A1.png", "a2.png", "B1.png"),
        ("9" * 200 + ".png", "a.png"),
    ],
)
def test_names_sort_naturally(names: tuple[str, ...]) -> None:
    assert tuple(path.name for path in sorted(map(Path, reversed(names)), key=natural_order)) == names


def test_each_page_of_a_tiff_is_a_frame(tmp_path: Path) -> None:
    pages = [Image.fromarray(corner_image(level)) for level in range(5)]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    for path in (tmp_path, tmp_path / "p.tif"):
        source = open_source(str(path))
        assert [grey_level(frame.rgb) for frame in source] == [0, 1, 2, 3, 4]
        assert (source.frames, source.skipped) == (5, 0)


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, 1)), (3, (1, 1)), (4, (1, 0)), (5, (0, 0)), (6, (0, 1)), (8, (1, 0))],
)
@pytest.mark.parametrize("kind", ["tif", "jpg"])
def test_the_exif_orientation_is_applied(tmp_path: Path, kind: str, orientation: int, corner: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(corner_image(3)).save(tmp_path / f"t.{kind}", exif=exif)
    (frame,) = open_source(str(tmp_path))
    height, width = frame.rgb.shape[:2]
    assert (height > width) == (orientation >= 5)
    y, x = (height * (1 + 2 * corner[0]) // 4, width * (1 + 2 * corner[1]) // 4)
    assert np.abs(frame.rgb[y, x].astype(int) - (220, 30, 30)).max() < 20


@pytest.mark.parametrize("kind", ["tif", "png"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_16_bit_grey_is_scaled_by_the_bits_in_use(tmp_path: Path, kind: str, bits: int) -> None:
    ramp = np.linspace(0, (1 << bits) - 1, 64 * 48).astype(np.uint16).reshape(48, 64)
    cv2.imwrite(str(tmp_path / f"t.{kind}"), ramp)
    logged: list[str] = []
    (frame,) = open_source(str(tmp_path), log=logged.append)
    assert np.abs(frame.rgb[..., 0].astype(int) - ramp / ((1 << bits) - 1) * 255).max() <= 1
    assert len(logged) == (bits < 16)


def test_a_claimed_size_is_refused_before_decoding(tmp_path: Path) -> None:
    write_image(tmp_path / "3.png", 3)
    (tmp_path / "1.png").write_bytes(claimed_png(50_000, 20_000))
    (tmp_path / "2.png").write_bytes(claimed_png(9_000, 9_000))
    source = open_source(str(tmp_path))
    assert [grey_level(frame.rgb) for frame in source] == [3]
    assert source.skipped == 2


def tiff(next_page: int) -> bytes:
    """A TIFF of one grey page of 4x4 pixels whose next page is said to be at `next_page`."""
    tags = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 200), (277, 1), (278, 4), (279, 16)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    page = struct.pack("<H", len(tags)) + entries + struct.pack("<I", next_page)
    return (b"II*\0" + struct.pack("<I", 8) + page).ljust(216, b"\x80")


@pytest.mark.parametrize("next_page", [0, 8, 150, 2**31])
def test_a_cyclic_or_broken_chain_of_tiff_pages_ends(tmp_path: Path, next_page: int) -> None:
    write_image(tmp_path / "1.png", 3)
    (tmp_path / "2.tif").write_bytes(tiff(next_page))
    source = open_source(str(tmp_path))
    assert 1 <= len(list(source)) <= 2
    assert source.frames <= 3


def test_a_folder_of_broken_images_is_refused_when_read(tmp_path: Path) -> None:
    for name in ("a.png", "b.tif", "c.jpg"):
        (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(SourceError, match="none of the 3 images"):
        list(open_source(str(tmp_path)))
