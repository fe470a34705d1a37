"""Faces that the face detector misses, by height and under changes of the image, false alarms, and its time.

A face is missed if less than 70 % of its box is covered. Each one is shown in a frame of 640x480, at several heights.
"""

from __future__ import annotations

import csv
import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from flash_vstream_ros.engine.ingest.faces import Box, FaceDetector, FacesUnavailable, check_face_detector, cover_faces
from flash_vstream_ros.memory import FlashMemoryConfig
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.names import HOUSEHOLD
from flash_vstream_ros.progress import tracked

from .camera_ingest import WARM_UP_SLOTS, ingest_costs
from .errors import BenchmarkError

SIZE = (640, 480)  # width, height
COVERED = 0.7  # share of a box
HEIGHTS = (10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 320, 400)  # of a face [px]
CHANGED_HEIGHTS = (24, 32, 64, 128)
LARGEST_SCALE = 1.6  # an image that is enlarged more shows no detail of a face of that height
GREY = (110, 110, 110)
ROUNDS, SLOTS = 15, 10

OpenImages = Callable[[Path], Iterable[np.ndarray]]
"""Opens an image, or a video of which it returns a frame per second. RGB uint8 [height, width, 3]."""


class Face(NamedTuple):
    """An image, and the box of one face in it [px]."""

    image: np.ndarray
    box: Box


class Change(NamedTuple):
    """A change of the image."""

    turn: float = 0.0  # around the face [degrees]
    pixels: Callable[[np.ndarray, float], np.ndarray] = lambda rgb, height: rgb  # of an image and its face's height


def _scaled(factor: float) -> Change:
    return Change(pixels=lambda rgb, _: np.clip(rgb * factor, 0, 255).astype(np.uint8))


def _blurred(share: float) -> Change:
    return Change(pixels=lambda rgb, height: cv2.GaussianBlur(rgb, (0, 0), share * height))


def _noisy(rgb: np.ndarray, _: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0.0, 20.0, rgb.shape)
    return np.clip(rgb + noise, 0, 255).astype(np.uint8)


UNCHANGED = Change()
CHANGES = {
    "turned by 15 degrees": Change(15.0),
    "turned by 30 degrees": Change(30.0),
    "turned by 45 degrees": Change(45.0),
    "turned by 90 degrees": Change(90.0),
    "turned by 180 degrees": Change(180.0),
    "brightness x 0.3": _scaled(0.3),
    "brightness x 0.15": _scaled(0.15),
    "brightness x 0.05": _scaled(0.05),
    "brightness x 2, clipped": _scaled(2.0),
    "brightness x 3, clipped": _scaled(3.0),
    "blurred, sigma 4 % of the height": _blurred(0.04),
    "blurred, sigma 8 % of the height": _blurred(0.08),
    "noise, sigma 20 of 255": Change(pixels=_noisy),
}


def run(
    open_images: OpenImages, images: Path | None = None, model: str = HOUSEHOLD, device: str = "auto"
) -> dict[str, Any]:
    """Measure the time, and with a folder of `images` also misses and false alarms.

    Raises BenchmarkError, and what `open_images` raises.
    """
    try:
        check_face_detector()
    except FacesUnavailable as error:
        raise BenchmarkError(str(error)) from error
    time_s = times(model, device)
    if images is None:
        return {"time": time_s}
    detector = FaceDetector()
    try:
        return {"time": time_s, **errors(detector, images, open_images)}
    finally:
        detector.close()


def times(model: str, device: str) -> dict[str, float]:
    """Processor time of detection in a frame, and that in the two frames of a slot, relative to ingesting the slot.

    `slot_s` is the processor time to ingest a slot without detection; on a GPU, it is the duration.
    """
    image = np.random.default_rng(0).integers(0, 255, (*SIZE[::-1], 3), np.uint8)
    detector, before = FaceDetector(), os.times()
    for _ in range(ROUNDS):
        detector.detect(image)
    detector.close()  # adds the time of its processes to `os.times`
    after = os.times()
    used = zip(after[:4], before[:4], strict=True)  # user and system time, of this process and of its children
    frame_s = sum(late - early for late, early in used) / ROUNDS
    loaded = load_model(model, device)
    ingest_costs(loaded, FlashMemoryConfig(), [image], SLOTS)  # the first slots load and compile
    began = time.process_time()
    duration_s = ingest_costs(loaded, FlashMemoryConfig(), [image], SLOTS)["slot_s"]
    processor_s = (time.process_time() - began) / (WARM_UP_SLOTS + SLOTS)
    slot_s = duration_s if loaded.device.type == "cuda" else processor_s
    return {"frame_s": frame_s, "slot_s": slot_s, "over_ingest": 2 * frame_s / slot_s}


def errors(detector: FaceDetector, folder: Path, open_images: OpenImages) -> dict[str, Any]:
    """Faces missed in the images that faces.csv names, and areas covered in all other images and videos."""
    boxes = _boxes(folder)
    faces = [Face(image, box) for name in boxes for image in open_images(folder / name) for box in boxes[name]]
    by_height = [
        {"height": height, **misses(detector, faces, height)} for height in tracked(HEIGHTS, "heights", len(HEIGHTS))
    ]
    changed = [
        {"change": name, "height": height, **misses(detector, faces, height, change)}
        for name, change in tracked(CHANGES.items(), "changes of the image", len(CHANGES))
        for height in CHANGED_HEIGHTS
    ]
    others = sorted(file for file in folder.iterdir() if file.name not in {*boxes, "faces.csv"} and file.is_file())
    alarms = [{"file": file.name, **false_alarms(detector, open_images(file))} for file in others]
    return {"faces": len(faces), "by_height": by_height, "changed": changed, "without_faces": alarms}


def misses(detector: FaceDetector, faces: list[Face], height: float, change: Change = UNCHANGED) -> dict[str, int]:
    """Number of faces that can be shown at this height, and of those that are missed."""
    shown = [face for face in faces if height / face.box.height <= LARGEST_SCALE]
    missed = sum(_is_missed(detector, *_framed(face, height, change)) for face in shown)
    return {"shown": len(shown), "missed": missed}


def false_alarms(detector: FaceDetector, frames: Iterable[np.ndarray]) -> dict[str, float]:
    """Number of frames, number of those in which anything is covered, and mean share of the image that is covered."""
    shares = [float(_covered(detector, rgb).mean()) for rgb in frames]
    return {
        "frames": len(shares),
        "covered_frames": sum(share > 0 for share in shares),
        "covered_share": statistics.fmean(shares) if shares else 0.0,
    }


def show(result: dict[str, Any]) -> None:
    took = result["time"]
    print(
        f"a frame of {SIZE[0]}x{SIZE[1]}: {took['frame_s'] * 1000:.0f} ms of one core; two frames take"
        f" {took['over_ingest']:.2f} of the time to ingest a slot ({took['slot_s'] * 1000:.0f} ms)"
    )
    if "faces" not in result:
        return
    print(f"{result['faces']} faces: missed, by height [px]")
    print("  " + ", ".join(f"{row['height']}: {row['missed']} of {row['shown']}" for row in result["by_height"]))
    for name in CHANGES:
        rows = [row for row in result["changed"] if row["change"] == name]
        print(f"  {name}: " + ", ".join(f"{row['height']}: {row['missed']} of {row['shown']}" for row in rows))
    for row in result["without_faces"]:
        print(
            f"without faces: {row['file']}: something is covered in {row['covered_frames']} of {row['frames']} frames,"
            f" {row['covered_share']:.2%} of the image in the mean"
        )


def _boxes(folder: Path) -> dict[str, list[Box]]:
    found: dict[str, list[Box]] = {}
    try:
        with (folder / "faces.csv").open(encoding="utf-8", newline="") as lines:
            for name, *box in csv.reader(lines):
                found.setdefault(name, []).append(Box(*map(float, box)))
    except (OSError, TypeError, ValueError) as error:
        raise BenchmarkError(
            f"{folder / 'faces.csv'} must have a line FILE,LEFT,TOP,WIDTH,HEIGHT for each face: {error}"
        ) from error
    return found


def _framed(face: Face, height: float, change: Change) -> tuple[np.ndarray, Box]:
    """A frame that shows a face in its middle at this height, and the box of the face in it."""
    scale = height / face.box.height
    size = [max(1, round(side * scale)) for side in face.image.shape[1::-1]]
    image = cv2.resize(face.image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    centre = (face.box.left + face.box.width / 2) * scale, (face.box.top + face.box.height / 2) * scale
    turn = cv2.getRotationMatrix2D(centre, change.turn, 1.0)
    turn[:, 2] += SIZE[0] / 2 - centre[0], SIZE[1] / 2 - centre[1]
    rgb = change.pixels(cv2.warpAffine(image, turn, SIZE, borderValue=GREY), height)
    width = face.box.width * scale
    if change.turn == 90.0:
        width, height = height, width
    return rgb, Box((SIZE[0] - width) / 2, (SIZE[1] - height) / 2, width, height)


def _is_missed(detector: FaceDetector, rgb: np.ndarray, box: Box) -> bool:
    rows = slice(max(0, round(box.top)), round(box.top + box.height))
    columns = slice(max(0, round(box.left)), round(box.left + box.width))
    return bool(_covered(detector, rgb)[rows, columns].mean() < COVERED)


def _covered(detector: FaceDetector, rgb: np.ndarray) -> np.ndarray:
    """Returns True for each covered pixel [height, width]."""
    checks = (np.indices(rgb.shape[:2]).sum(0) % 2 * 255).astype(np.uint8)  # no area has its own mean
    return (cover_faces(checks[:, :, None], detector.detect(rgb)) != checks[:, :, None]).any(2)
