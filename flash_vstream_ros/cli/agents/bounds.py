"""Bounds of a tool's result: characters of text, and number, side and bytes of thumbnails.

A result has at most MAX_RESULT_CHARS characters of JSON and 4/3 * MAX_THUMBNAILS * MAX_THUMBNAIL_BYTES = 349,528
characters of base64. The SDK's HTTP client accepts events of up to 1 MiB.
"""

from __future__ import annotations

import json
from typing import Any

from flash_vstream_ros.engine.jpeg import jpeg_of
from flash_vstream_ros.engine.log_text import printable
from flash_vstream_ros.ros.compressed_images import compressed_to_rgb
from flash_vstream_ros.ros.images import BadImage

MAX_RESULT_CHARS = 20_000  # of a result's JSON
MAX_TEXT_CHARS = 4_000  # of one text of a model, a node or a camera
MAX_THUMBNAILS = 8  # in one result
THUMBNAIL_SIDE = 256  # longest [px]
MAX_THUMBNAIL_BYTES = 32 * 1024
QUALITIES = (80, 50, 20)  # of JPEG, tried in this order until the thumbnail is small enough


def bounded_text(text: str) -> str:
    """`text` without control characters, cut off after MAX_TEXT_CHARS characters."""
    safe = printable(text[: MAX_TEXT_CHARS + 1])
    return safe if len(safe) <= MAX_TEXT_CHARS else f"{safe[:MAX_TEXT_CHARS]} (cut off)"


def bounded_json(fields: dict[str, Any], rows: str = "") -> str:
    """`fields` as JSON of at most MAX_RESULT_CHARS characters.

    If it is longer, the last items of the list `fields[rows]` are left out, and `omitted` has their number. Raises
    ValueError if it is too long without them.
    """
    kept = list(fields.get(rows, ()))
    while True:
        omitted = len(fields.get(rows, ())) - len(kept)
        shown = {**fields, **({rows: kept} if rows else {}), **({"omitted": omitted} if omitted else {})}
        text = json.dumps(shown, ensure_ascii=False)
        if len(text) <= MAX_RESULT_CHARS:
            return text
        if not kept:
            raise ValueError(f"the reply has {len(text)} characters; at most {MAX_RESULT_CHARS} are passed on")
        kept = kept[: len(kept) * MAX_RESULT_CHARS // len(text)]


def small_jpeg(thumbnail: Any) -> bytes | None:
    """A sensor_msgs/CompressedImage as a JPEG within the bounds; None if it is no image, or too large even then."""
    try:
        rgb = compressed_to_rgb(thumbnail)
    except BadImage:
        return None
    jpegs = (jpeg_of(rgb, THUMBNAIL_SIDE, quality) for quality in QUALITIES)
    return next((jpeg for jpeg in jpegs if len(jpeg) <= MAX_THUMBNAIL_BYTES), None)
