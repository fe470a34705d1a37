"""Fits which attention heads rank the evidence of answers, and measures the ranking on other patrols.

The mean over all heads is diluted in a deep model, since most heads attend to no entry in particular. The fitted
weights favour heads that attend to the entries that show what was asked about. The simulator says which ones do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.engine.answering.evidence_ranking import steadied
from flash_vstream_ros.memory import FlashMemory, FlashMemoryConfig, MemoryEntry
from flash_vstream_ros.models.evidence_heads import HEADS_KEY, head_weights
from flash_vstream_ros.models.household_settings import MEMORY
from flash_vstream_ros.models.llava.flash_vstream_llava import FlashVStreamLLaVA
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.names import HOUSEHOLD, is_demo_model
from flash_vstream_ros.progress import tracked

from .errors import BenchmarkError
from .evidence import SUBJECTS, Ranked, evidence_scores, prefilled, scores_by_subject, shown, subject_of
from .patrol_evaluation import PACE_S, loaded, slots_by_moment

FIRST_SEED = 880_000
FITTED = ("things", "rooms")  # the last token attends to what the question names; the order is known to later entries
DRAWS = 3  # number of times that the questions of a moment are drawn
SHARPNESS = 4.0  # exponent of the entries' shares: the first entry matters, not the sum of all
PENALTY = 0.01  # on the squared log weights, so that heads without an effect stay alike
SMALLEST = 1e-6  # added to shares, so that their logarithm is finite


class Case(NamedTuple):
    """The attention at a question about one of SUBJECTS, and the entries that show it."""

    attention: Tensor  # [layers, heads, entries] float32, see `GreedyGeneration.head_attention`
    shows: Sequence[bool]  # of each entry
    entries: tuple[MemoryEntry, ...]
    subject: str  # one of SUBJECTS


def patrol(model: Any, config: FlashMemoryConfig, seed: int, minutes: float, pace_s: Sequence[float]) -> Iterator[Case]:
    """A case for each question about what some entry shows, at several moments of one patrol."""
    rng = np.random.default_rng(seed)
    world = World(seed, minutes, pace_s=rng.uniform(min(pace_s), max(pace_s)))
    memory = FlashMemory(config)
    for now, slots in slots_by_moment(model, world, minutes):
        for slot in slots:
            memory.insert(slot)
        snapshot = memory.snapshot()
        for question in (one for _ in range(DRAWS) for one in questions(world.visits, now, rng)):
            subject = subject_of(question)
            if subject and any(shows := shown(world, question, snapshot.entries)):
                yield Case(prefilled(model, snapshot, question).head_attention, shows, snapshot.entries, subject)


def fitted_heads(cases: Sequence[Case]) -> Tensor:
    """Weights [layers, heads], which sum to 1, so that the entries that show what was asked about come first."""
    layers, heads = cases[0].attention.shape[:2]
    logs = torch.zeros(layers * heads, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logs], max_iter=200, line_search_fn="strong_wolfe")
    rows = [
        (case.attention.flatten(0, 1).double(), torch.tensor(case.shows)) for case in cases if case.subject in FITTED
    ]

    def loss() -> Tensor:
        optimiser.zero_grad()
        weights = logs.softmax(0)
        missed = []
        for attention, shows in rows:
            scores = SHARPNESS * (weights @ attention + SMALLEST).log()
            missed.append(scores.logsumexp(0) - scores[shows].logsumexp(0))
        value = torch.stack(missed).mean() + PENALTY * logs.square().mean()
        value.backward()
        return value

    optimiser.step(loss)
    return logs.detach().softmax(0).view(layers, heads).float()


def ranking(cases: Sequence[Case], weights: Tensor) -> dict[str, Any]:
    """Scores of cases, of all and by subject, ranked by the attention of heads with `weights` [layers, heads]."""
    ranked = []
    for attention, shows, entries, subject in cases:
        shares = steadied(entries, torch.einsum("lh,lhe->e", weights, attention).tolist())
        order = sorted(zip(shares, shows, strict=True), key=lambda pair: -pair[0])
        ranked.append(Ranked.of([does for _, does in order], subject))
    return {**evidence_scores(ranked), **scores_by_subject(ranked)}


def run(
    model: str = HOUSEHOLD,
    streams: int = 8,
    minutes: float = 150.0,
    seed: int = FIRST_SEED,
    device: str = "auto",
    pace: Sequence[float] = PACE_S,
    save: Path | None = None,
) -> dict[str, Any]:
    """Fit on every other patrol, and measure on the others.

    The configuration of the model in `save` gets weights fitted on all patrols, if fitted ones ranked better.
    Raises ModelError and BenchmarkError.
    """
    if save is not None and not (save / "config.json").is_file():
        raise BenchmarkError(f"{save} has no config.json to save weights in: give the folder of a model")
    is_demo = is_demo_model(model)
    own = loaded(model, device) if is_demo else load_model(model, device=device)
    if isinstance(own, FlashVStreamLLaVA):
        raise BenchmarkError("Flash-VStream-LLaVA has no Flash Memory of slots: give a model of another family")
    config = MEMORY if is_demo else FlashMemoryConfig()
    made = ([*patrol(own, config, number, minutes, tuple(pace))] for number in range(seed, seed + streams))
    patrols = [*tracked(made, "patrols", streams)]
    fit, measured = ([case for cases in patrols[first::2] for case in cases] for first in (0, 1))
    if not fit or not measured:
        raise BenchmarkError("no entry of the memory shows a thing that was asked about: give more or longer patrols")
    weights, alike = fitted_heads(fit), head_weights(None, *fit[0].attention.shape[:2])
    before, after = ranking(measured, alike), ranking(measured, weights)
    is_better = sum(after[one]["hits_at_1"] - before[one]["hits_at_1"] for one in FITTED) > 0
    saved = save if is_better else None
    if saved is not None:
        save_heads(saved, fitted_heads([*fit, *measured]))
    return {
        "model": model,
        "streams": streams,
        "minutes": minutes,
        "pace": [*pace],
        "seed": seed,
        "alike": before,
        "fitted": after,
        "weights": weights.tolist(),
        "saved": str(saved) if saved is not None else None,
    }


def save_heads(folder: Path, weights: Tensor) -> None:
    """Write the weights into the configuration of a model."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({**config, HEADS_KEY: weights.flatten().tolist()}, indent=2) + "\n", encoding="utf-8")
    partial.replace(file)


def show(result: dict[str, Any]) -> None:
    layers, heads = len(result["weights"]), len(result["weights"][0])
    for subject in SUBJECTS:
        if asked := result["alike"][subject]["questions"]:
            print(f"evidence of {asked} questions about {subject}, patrols that the fit did not see")
            for name, text in (("alike", f"mean over {layers} x {heads} heads"), ("fitted", "fitted weights")):
                scores = result[name][subject]
                first, three = 100 * scores["precision_at_1"], 100 * scores["hit_at_3"]
                print(f"{text:>22}: the first entry shows it in {first:.1f} %, one of three in {three:.1f} %")
    if result["saved"]:
        print(f"wrote weights of the heads to {result['saved']}/config.json")
    for layer, weights in enumerate(result["weights"]):
        print(f"layer {layer:2}: " + " ".join(f"{100 * weight:4.1f}" for weight in weights) + " %")
