"""Frames to patches: sizes, Pillow parity, pooling and patch order, against recorded data and Pillow itself."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flash_vstream_ros.models.interface import Grid
from flash_vstream_ros.models.preprocess import CLIP_MEAN, CLIP_STD, Preprocessor, normalise, patchify, resize

SHARED = Path(__file__).parents[2] / "shared" / "data"
GOLDEN = SHARED / "golden" / "qwen"
CPU = torch.device("cpu")
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="recorded data is not here")


def scene(height: int, width: int) -> np.ndarray:
    """An image with the smooth shades, edges and grain of a photograph."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    image = np.stack([90 + 80 * np.sin(x / 60 + c) * np.cos(y / 45 - c) for c in range(3)], axis=-1)
    for _ in range(12):
        corner, other = rng.integers(0, [width, height], (2, 2)).tolist()
        cv2.rectangle(image, corner, other, rng.integers(0, 256, 3).tolist(), int(rng.integers(1, 9)))
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def video_frames(count: int) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(SHARED / "vtest.avi"))
    frames = []
    for _ in range(count):
        good, frame = video.read()
        if not good:
            pytest.skip("vtest.avi is not here or cannot be read")
        frames.append(np.ascontiguousarray(frame[:, :, ::-1]))
    return frames


def published_pixels(frame: np.ndarray, loaded: tuple[int, int], final: tuple[int, int]) -> np.ndarray:
    """Both resize stages by Pillow, then CLIP's normalisation; [height, width, 3]."""
    image_module = pytest.importorskip("PIL.Image")
    image = image_module.fromarray(frame)
    for height, width in (loaded, final):
        image = image.resize((width, height), image_module.Resampling.BICUBIC)
    return (np.asarray(image, np.float32) / 255 - np.float32(CLIP_MEAN)) / np.float32(CLIP_STD)


@pytest.mark.parametrize(
    ("raw", "loaded", "final"),
    [
        ((450, 800), (308, 588), (336, 560)),
        ((300, 400), (308, 392), (336, 392)),
        ((720, 720), (448, 448), (448, 448)),
    ],
)
def test_frames_are_sized_in_two_stages(raw, loaded, final):
    assert Preprocessor().loader_size(*raw) == loaded
    assert Preprocessor().final_size(*raw) == final
    assert Preprocessor().grid(*raw) == Grid(final[0] // 14, final[1] // 14)


@needs_golden
def test_sizes_equal_the_recorded_table():
    for row in json.loads((GOLDEN / "functions" / "resize_table.json").read_text()):
        preprocessor = Preprocessor(max_pixels=row["max_pixels"])
        assert list(preprocessor.loader_size(*row["raw"])) == row["stage1"], row
        assert list(preprocessor.final_size(*row["raw"])) == row["final"], row


@pytest.mark.parametrize(("height", "width", "why"), [(40, 400, "too small"), (56, 30000, "too narrow")])
def test_frames_that_cannot_be_encoded_are_refused(height, width, why):
    with pytest.raises(ValueError, match=why):
        Preprocessor().grid(height, width)


@needs_golden
def test_two_stage_resize_equals_the_recorded_one():
    golden = load_file(GOLDEN / "functions" / "two_stage_resize.safetensors")
    frames = [*golden["frames"].numpy(), golden["frames"][-1].numpy()]
    preprocessor = Preprocessor(min_pixels=3136, max_pixels=4800)
    stage1 = resize(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2), preprocessor.loader_size(61, 90))
    off = (stage1.permute(0, 2, 3, 1) - golden["stage1"]).abs()
    assert off.max() <= 1
    assert off.mean() < 1e-3

    rows, _ = preprocessor.rows(frames, preprocessor.grid(61, 90), CPU, torch.float32)
    off = (rows[golden["pixel_rows_index"]] - golden["pixel_rows"]).abs()
    assert off.max() < 0.03  # two levels
    assert off.mean() < 1e-3


@needs_golden
def test_low_resolution_twin_equals_the_recorded_pooling():
    golden = load_file(GOLDEN / "functions" / "temporal_pool.safetensors")
    _, rows, columns = golden["grid_thw"].tolist()
    blocks = golden["patches"].reshape(rows // 2, columns // 2, 2, 2, 3, 2, 14, 14)
    images = blocks.permute(5, 4, 0, 2, 6, 1, 3, 7).reshape(2, 3, rows * 14, columns * 14)
    assert torch.equal(patchify(images, 14, 2, 2), golden["patches"])
    pool = torch.nn.functional.avg_pool2d
    assert torch.allclose(patchify(pool(images, 2), 14, 2, 2), golden["pooled"], atol=1e-6)
    assert torch.equal(patchify(pool(images.bfloat16(), 2), 14, 2, 2), golden["pooled_from_bf16"])


@needs_golden
@pytest.mark.parametrize("case", ["c002", "c008", "c018", "c024", "r002"])
def test_patch_rows_equal_the_recorded_ones(case):
    golden = load_file(GOLDEN / "cases" / f"{case}.safetensors")
    _, rows, columns = golden["video_grid_thw"][0].tolist()
    images = resize(golden["frames"].permute(0, 3, 1, 2), (rows * 14, columns * 14))
    patches = patchify(normalise(images), 14, 2, 2)
    off = (patches[golden["pixel_rows_index"]] - golden["pixel_rows"]).abs()
    resized = case == "r002"
    assert off.max() < (0.02 if resized else 2e-6)
    assert off.mean() < (1e-3 if resized else 1e-6)


@pytest.mark.parametrize("size", [(480, 640), (720, 1280), (300, 400), (120, 160)])
def test_photographs_agree_with_pillow(size):
    frame = scene(*size)
    preprocessor = Preprocessor()
    grid = preprocessor.grid(*size)
    ours = preprocessor.pixels([frame, frame], grid, CPU)[0].permute(1, 2, 0).numpy()
    published = published_pixels(frame, preprocessor.loader_size(*size), preprocessor.final_size(*size))
    assert np.abs(ours - published).mean() < 1e-4
    assert np.abs(ours - published).max() < 0.05


def test_video_frames_agree_with_pillow():
    frames = video_frames(2)
    preprocessor = Preprocessor()
    size = frames[0].shape[:2]
    ours = preprocessor.pixels(frames, preprocessor.grid(*size), CPU).permute(0, 2, 3, 1).numpy()
    for image, frame in zip(ours, frames, strict=True):
        published = published_pixels(frame, preprocessor.loader_size(*size), preprocessor.final_size(*size))
        assert np.abs(image - published).mean() < 1e-4


def test_a_frame_that_fits_its_grid_is_not_resampled():
    frame = scene(448, 448)
    pixels = Preprocessor().pixels([frame, frame], Grid(32, 32), CPU)
    expected = (frame.astype(np.float64) / 255 - CLIP_MEAN) / CLIP_STD
    assert np.abs(pixels[0].permute(1, 2, 0).numpy() - expected).max() < 1e-6


def test_frames_of_any_size_are_resized_to_the_grid_of_the_stream():
    frames = [scene(480, 640), scene(640, 480), scene(30, 50), scene(480, 640)]
    rows, low = Preprocessor().rows(frames, Grid(24, 36), CPU, torch.float32)
    assert rows.shape == (2 * 24 * 36, 1176)
    assert low.shape == (2 * 12 * 18, 1176)


def disc(height: int, width: int) -> np.ndarray:
    """A white disc, half as wide as the shorter side, in the middle of black."""
    image = np.zeros((height, width, 3), np.uint8)
    return cv2.circle(image, (width // 2, height // 2), min(height, width) // 4, (255, 255, 255), -1)


def extent(lit: np.ndarray) -> tuple[int, int]:
    """Height and width of the region that is True."""
    rows, columns = np.nonzero(lit)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize("first", [(720, 1280), (480, 640), (640, 480)])
@pytest.mark.parametrize("other", [(720, 1280), (480, 640), (640, 480), (600, 600), (300, 1200)])
def test_a_camera_of_another_aspect_ratio_is_not_distorted(first: tuple[int, int], other: tuple[int, int]) -> None:
    preprocessor = Preprocessor()
    grid = preprocessor.grid(*first)
    pixels = preprocessor.pixels([disc(*other)] * 2, grid, CPU)[0, 0].numpy()
    assert pixels.shape == (grid.height * 14, grid.width * 14)
    height, width = extent(pixels > 0)
    # Sides are whole tokens of 56 pixels, for the first camera's own images as for those of the others.
    shown = preprocessor.content_size(*other, pixels.shape)
    allowed = (1 + 28 / shown[0]) * (1 + 28 / shown[1]) * 1.05
    assert 1 / allowed < height / width < allowed


def test_letterbox_bars_are_of_the_mean_colour() -> None:
    preprocessor, grid = Preprocessor(), Grid(24, 36)
    size, frame = (24 * 14, 36 * 14), scene(640, 480)
    shown = preprocessor.content_size(640, 480, size)
    assert shown == (336, 224)
    pixels = preprocessor.pixels([frame, frame], grid, CPU)[0]
    loaded = resize(torch.from_numpy(frame).permute(2, 0, 1)[None], preprocessor.loader_size(640, 480))
    alone = normalise(resize(loaded, shown))[0]
    torch.testing.assert_close(pixels[:, :, 112 : 112 + 224], alone)
    assert not pixels[:, :, :112].any()
    assert not pixels[:, :, 336:].any()


@pytest.mark.parametrize("size", [(480, 640), (720, 1280), (61, 90), (300, 1200)])
def test_a_camera_of_the_same_aspect_ratio_fills_the_grid(size: tuple[int, int]) -> None:
    preprocessor = Preprocessor()
    whole = preprocessor.final_size(*size)
    for scale in (1, 2, 3):
        assert preprocessor.content_size(scale * size[0], scale * size[1], whole) == whole


def test_pixels_are_cast_before_they_are_pooled():
    frames = [scene(448, 448)] * 2
    high, low = Preprocessor().rows(frames, Grid(32, 32), CPU, torch.bfloat16)
    images = normalise(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)).bfloat16()
    assert torch.equal(high, patchify(images, 14, 2, 2))
    assert torch.equal(low, patchify(torch.nn.functional.avg_pool2d(images, 2), 14, 2, 2))


@pytest.mark.parametrize("frame", [np.zeros((60, 60), np.uint8), np.zeros((60, 60, 3), np.float32)])
def test_frames_that_are_not_rgb_bytes_are_refused(frame):
    with pytest.raises(ValueError, match="uint8"):
        Preprocessor().pixels([frame, frame], Grid(4, 4), CPU)
