"""Calibration error and ranking quality of the confidence of answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = 10) -> float:
    """Expected calibration error: |confidence - share of right answers|, averaged over bins of equal width.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    given, true = np.asarray(confidences, float), np.asarray(right, float)
    place = np.minimum((given * bins).astype(int), bins - 1)
    gaps = (abs(given[place == one].sum() - true[place == one].sum()) for one in range(bins))
    return float(sum(gaps)) / max(len(given), 1)


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Area under the ROC curve: probability that a positive score is above a negative one; ties count half."""
    if not len(positive) or not len(negative):
        raise ValueError("The area under the curve needs scores of both classes.")
    ordered = np.sort(np.asarray(negative, float))
    low, high = (np.searchsorted(ordered, positive, side) for side in ("left", "right"))
    return float((low + high).mean() / 2 / len(ordered))
