"""Scales a camera's 16-bit samples to 8 bits, by the range that the camera uses.

Drivers put 10, 12 or 14 significant bits into the low end of mono16, bayer_*16 and 16-bit PNG, so that the high byte
alone is nearly black. sensor_msgs/Image has no field for the number of significant bits.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

FULL_BITS = 16
MIN_BITS = 10  # so that a dark image is not mistaken for one with fewer bits
NARROW = 4  # grey samples, such as a thermal camera's, are stretched if they span less than 1/4 of their range
ROWS_AT_ONCE = 64  # bounds temporary memory, and the time that another thread waits for the interpreter
MIN_SPAN = 255  # smallest span that is stretched to 0..255; a smaller one would amplify noise


class SampleRange:
    """Scales samples of one camera by the largest range seen so far. Not thread safe.

    `significant_bits` is 8 to 16, or 0 to estimate it from the images; the estimate never decreases. `log` gets a
    sentence when the estimate changes to fewer than 16 bits or to a stretched range.
    """

    def __init__(self, significant_bits: int = 0, log: Callable[[str], None] | None = None) -> None:
        self._fixed = significant_bits
        self._log = log
        self._bits = significant_bits
        self._low, self._high = 1 << FULL_BITS, 0
        self._logged = ""

    @property
    def is_full(self) -> bool:
        """Returns True if the 8-bit value of a sample is always its high byte."""
        return self._fixed == FULL_BITS

    def to_8_bits(self, samples: np.ndarray, grey: bool) -> np.ndarray:
        """Scale uint16 samples [height, width, channels] to uint8. `grey`: one channel that is not a mosaic."""
        blocks = [slice(start, start + ROWS_AT_ONCE) for start in range(0, samples.shape[0], ROWS_AT_ONCE)]
        if not self._fixed:
            extremes = [(int(samples[block].min()), int(samples[block].max())) for block in blocks]
            self._grow(min(low for low, _ in extremes), max(high for _, high in extremes))
        black, white = self._limits(grey)
        self._report(black, white)
        scale = 255.0 / (white - black)
        scaled = np.empty(samples.shape, np.uint8)
        for block in blocks:
            rows, out = samples[block].astype(np.uint16, copy=False), scaled[block]
            if black == 0 and white == (1 << FULL_BITS) - 1:
                np.right_shift(rows, 8, out=out, casting="unsafe")
            else:
                above = np.maximum(rows, black) if black else rows
                out[...] = cv2.convertScaleAbs(above, alpha=scale, beta=-black * scale).reshape(out.shape)
        return scaled

    def _grow(self, low: int, high: int) -> None:
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._bits = max(self._bits, next(bits for bits in (MIN_BITS, 12, 14, FULL_BITS) if high < 1 << bits))

    def _limits(self, grey: bool) -> tuple[int, int]:
        """The samples that become 0 and 255."""
        full = (1 << self._bits) - 1
        if grey and not self._fixed and self._bits < FULL_BITS and (self._high - self._low) * NARROW < full:
            return self._low, max(self._high, self._low + MIN_SPAN)
        return 0, full

    def _report(self, black: int, white: int) -> None:
        if self._fixed or (self._bits == FULL_BITS and black == 0):
            return
        kind = f"samples use {self._bits} of 16 bits" if black == 0 else "samples span a narrow range"
        if self._log and kind != self._logged:
            self._logged = kind
            self._log(f"{kind}: {black} to {white} is scaled to 0 to 255; image.significant_bits fixes the scale")
