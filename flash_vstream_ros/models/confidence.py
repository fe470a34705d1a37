"""Calibrated probability that an answer is right, from the probabilities of its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

CONFIDENCE_KEY = "flash_vstream_confidence"  # in the config.json of a model: the weights of `Calibration`
DECLINES_KEY = "flash_vstream_declines"  # in the same file: the answer that declines, such as "I cannot tell."
FEATURES = 3
LEAST = 1e-9  # of a probability


class Calibration(NamedTuple):
    """Logistic regression on FEATURES of an answer; the default returns the geometric mean of its probabilities.

    Fitted on held-out data (Platt scaling); the training does it on patrols that it never used.
    """

    weights: tuple[float, ...] = ()
    declines: str = ""

    @classmethod
    def of(cls, config: Any) -> Calibration:
        """The calibration of a model, from its configuration; unusable values are ignored."""
        weights, declines = getattr(config, CONFIDENCE_KEY, None), getattr(config, DECLINES_KEY, "")
        if not isinstance(weights, list) or len(weights) != FEATURES:
            return cls()
        if not all(isinstance(one, int | float) and math.isfinite(one) for one in weights):
            return cls()
        return cls(tuple(map(float, weights)), declines if isinstance(declines, str) else "")

    def confidence(self, probabilities: Sequence[float], answer: str = "") -> float:
        """Probability that the answer is right [0..1]; 0 if it declines to answer."""
        if not probabilities or (self.declines and answer.strip() == self.declines):
            return 0.0
        if not self.weights:
            return math.exp(sum(math.log(max(one, LEAST)) for one in probabilities) / len(probabilities))
        score = sum(w * x for w, x in zip(self.weights, features(probabilities), strict=True))
        return 1 / (1 + math.exp(-min(max(score, -30.0), 30.0)))


def features(probabilities: Sequence[float]) -> tuple[float, ...]:
    """One, and the log odds of the least probability and of the product of all."""
    return 1.0, _log_odds(min(probabilities)), _log_odds(math.prod(probabilities))


def _log_odds(probability: float) -> float:
    inside = min(max(probability, LEAST), 1 - LEAST)
    return math.log(inside / (1 - inside))
