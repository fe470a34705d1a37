"""Confidence: the probability that an answer is right, estimated from the probabilities of its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .config_numbers import is_numbers

CONFIDENCE_KEY = "flash_vstream_confidence"  # weights of `Calibration` in a model's config.json
DECLINES_KEY = "flash_vstream_declines"  # text of the answer "I do not know" in a model's config.json
DECLINES = "I cannot tell."  # default of the text of DECLINES_KEY
FEATURES = 3
MIN_PROBABILITY = 1e-9  # so that its logarithm is finite


class Calibration(NamedTuple):
    """Logistic regression on FEATURES of an answer, fitted on held-out data (Platt scaling).

    Without weights, the confidence is the geometric mean of the probabilities.
    """

    weights: tuple[float, ...] = ()
    declines: str = DECLINES

    @classmethod
    def of(cls, config: Any) -> Calibration:
        """The calibration in a model's configuration; invalid values are ignored."""
        weights, declines = getattr(config, CONFIDENCE_KEY, None), getattr(config, DECLINES_KEY, DECLINES)
        return cls(
            tuple(float(one) for one in weights) if is_numbers(weights, FEATURES) else (),
            declines if isinstance(declines, str) and declines.strip() else DECLINES,
        )

    @property
    def fitted(self) -> bool:
        """Returns True if `confidence` is a probability fitted on held-out data."""
        return bool(self.weights)

    def confidence(self, probabilities: Sequence[float], answer: str = "") -> float:
        """Confidence of an answer [0..1] from the probabilities of its tokens; 0 if its text is `declines`."""
        if not probabilities or _plain(answer) == _plain(self.declines):
            return 0.0
        if not self.weights:
            return geometric_mean(probabilities)
        score = sum(w * x for w, x in zip(self.weights, features(probabilities), strict=True))
        return 1 / (1 + math.exp(-min(max(score, -30.0), 30.0)))


def geometric_mean(probabilities: Sequence[float]) -> float:
    """Geometric mean of probabilities; 0 if there are none."""
    if not probabilities:
        return 0.0
    return math.exp(sum(math.log(max(one, MIN_PROBABILITY)) for one in probabilities) / len(probabilities))


def features(probabilities: Sequence[float]) -> tuple[float, ...]:
    """The constant 1, the log odds of the least probability, and the log odds of the product of all."""
    return 1.0, _log_odds(min(probabilities)), _log_odds(math.prod(probabilities))


def _plain(answer: str) -> str:
    return answer.strip().rstrip(".").lower()


def _log_odds(probability: float) -> float:
    inside = min(max(probability, MIN_PROBABILITY), 1 - MIN_PROBABILITY)
    return math.log(inside / (1 - inside))
