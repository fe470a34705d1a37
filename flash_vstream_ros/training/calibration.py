"""Fits the confidence of answers on patrols that were never trained on (Platt scaling)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flash_vstream_ros.demo.scoring import CANNOT_TELL, Question, right
from flash_vstream_ros.models.confidence import features

from .examples import Example
from .language import Batcher, target_logits

MAX_ANSWER_TOKENS = 24  # longer answers, which are summaries, are cut
PENALTY = 1e-3  # L2 penalty: factor on the squared weights


def calibrate(network: Any, batcher: Batcher, examples: Iterable[Example], questions: int, seed: int) -> dict[str, Any]:
    """Fit `models.confidence.Calibration` to the answers to up to `questions` questions of each example.

    Returns its weights, the number of answers and the share of right ones.
    """
    rng = np.random.default_rng(seed)
    rows: list[tuple[float, ...]] = []
    is_right: list[bool] = []
    for example in examples:
        chosen = [example.questions[i] for i in rng.permutation(len(example.questions))[:questions]]
        for question, (text, probabilities) in zip(chosen, greedy(network, batcher, example, chosen), strict=True):
            if probabilities and text.strip() != CANNOT_TELL:
                rows.append(features(probabilities))
                is_right.append(right(question, text))
    weights = fit(rows, is_right) if rows else [0.0, 0.0, 1.0]
    return {"weights": weights, "answers": len(rows), "right": float(np.mean(is_right)) if rows else None}


def fit(rows: Sequence[tuple[float, ...]], is_right: Sequence[bool]) -> list[float]:
    """Weights of a logistic regression of `is_right` on rows of features."""
    x, y = torch.tensor(rows, dtype=torch.float64), torch.tensor(is_right, dtype=torch.float64)
    weights = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.binary_cross_entropy_with_logits(x @ weights, y) + PENALTY * weights.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return weights.detach().tolist()


@torch.no_grad()
def greedy(
    network: Any, batcher: Batcher, example: Example, questions: Sequence[Question]
) -> list[tuple[str, list[float]]]:
    """Greedy answers with the probabilities of their tokens."""
    answers: list[list[int]] = [[] for _ in questions]
    probabilities: list[list[float]] = [[] for _ in questions]
    running = set(range(len(questions)))
    for _ in range(MAX_ANSWER_TOKENS):
        batch = batcher.unanswered(example, [question.text for question in questions], answers)
        best, tokens = target_logits(network, batch).float().softmax(-1).max(-1)
        for row in sorted(running):
            token = int(tokens[row])
            if token == batcher.stop:
                running.discard(row)
            else:
                answers[row].append(token)
                probabilities[row].append(float(best[row]))
        if not running:
            break
    return [(batcher.tokenizer.decode(ids), own) for ids, own in zip(answers, probabilities, strict=True)]
