"""The training run: both stages, saved every few minutes and resumed after an interruption."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flash_vstream_ros.models.decoding.grouped_attention import use_kernel
from flash_vstream_ros.models.prompt import ChatPrompt

from .curves import draw_curves
from .language import Batcher, Pool, answers_right, loss_and_hits
from .network import household_network, household_tokenizer
from .normaliser import with_normaliser
from .observations import render_observations
from .optimisers import kernel_beside_bfloat16, optimisers
from .patrols import Example, Features, encode_observations, examples
from .plan import Plan
from .vision import train_vision

SAVE_EVERY_S = 120.0
REPORT_STEPS = 50


@dataclass
class Progress:
    """Progress of a stage: `done` of `steps`."""

    stage: str
    done: int
    steps: int
    loss: float
    accuracy: float  # of whole answers; NaN if the stage has none


def train(plan: Plan, folder: Path, device: torch.device, report: Callable[[Progress], None]) -> Path:
    """Train in `folder`, resuming a run there; returns the folder of the finished model.

    Raises ValueError if the folder has a run of another seed, or if PyTorch is too old.
    """
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"Training needs the Muon optimiser of PyTorch 2.9 or later; this is {torch.__version__}.")
    folder.mkdir(parents=True, exist_ok=True)
    state = _State.load(folder, plan)
    tokenizer = household_tokenizer()
    torch.manual_seed(plan.seed)
    network = household_network(tokenizer).to(device)
    observations = render_observations(folder, plan.seed, os.cpu_count() or 1)
    if state.vision is None:

        def report_vision(step: int, loss: float) -> None:
            state.note("vision", step, loss)
            report(Progress("vision", step, plan.vision_steps, loss, float("nan")))

        state.scores = train_vision(network, observations, plan.vision_steps, plan.seed, device, report_vision)
        state.vision = network.model.visual.state_dict()
        state.save()
    network.model.visual.load_state_dict(state.vision)
    network.model.visual.requires_grad_(False)
    features = encode_observations(network, observations)
    with use_kernel(network.config.text_config, kernel_beside_bfloat16(device)):
        _train_language(plan, network, tokenizer, state, features, report)
    return _finish(folder, network, tokenizer, state)


def _train_language(
    plan: Plan, network: Any, tokenizer: Any, state: _State, features: Features, report: Callable[[Progress], None]
) -> None:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    learners = optimisers(network, plan.matrix_rate, plan.language_rate)
    if state.language is not None:
        network.load_state_dict(state.language)
        for learner, kept in zip(learners, state.optimisers, strict=True):
            learner.load_state_dict(kept)
    batcher = Batcher(network, tokenizer, ChatPrompt.of(tokenizer), plan.drills)
    draw = np.random.default_rng((plan.seed, state.step))

    def gradients(chosen: list[Example], seed: int) -> tuple[tuple[Tensor, ...], float, int, int]:
        torch.set_num_threads(threads)
        batch = batcher(chosen, plan.questions, np.random.default_rng(seed))
        with torch.autocast(network.device.type, torch.bfloat16):
            loss, hits = loss_and_hits(network, batch)
        return torch.autograd.grad(loss, parameters), float(loss.detach()), *answers_right(batch, hits, batcher.stop)

    pool = _pool(plan, features, state.step)
    began, saved = time.monotonic() - state.language_s, time.monotonic()
    losses: list[float] = []
    right = asked = 0
    threads = max(torch.get_num_threads() // plan.parts, 1)
    workers = ThreadPoolExecutor(plan.parts)
    try:
        while state.step < plan.language_steps:
            for learner, rate in zip(learners, (plan.matrix_rate, plan.language_rate), strict=True):
                for group in learner.param_groups:
                    group["lr"] = rate * _rate_factor(plan, state.step)
            if state.step == plan.language_steps - plan.cooling_steps:
                pool.close()
                pool = _pool(plan, features, state.step, pool.examples)
            chosen = [pool.draw(plan.batch // plan.parts, draw) for _ in range(plan.parts)]
            done = list(workers.map(gradients, chosen, draw.integers(1 << 40, size=plan.parts).tolist()))
            for parameter, *shares in zip(parameters, *(part[0] for part in done), strict=True):
                parameter.grad = torch.stack(shares).mean(0)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            for learner in learners:
                learner.step()
            state.step += 1
            losses.append(float(np.mean([part[1] for part in done])))
            right, asked = right + sum(part[2] for part in done), asked + sum(part[3] for part in done)
            ended = state.step == plan.language_steps
            if state.step % REPORT_STEPS == 0 or ended:
                state.language_s = time.monotonic() - began
                state.note("language", state.step, float(np.mean(losses)), right / asked)
                report(Progress("language", state.step, plan.language_steps, float(np.mean(losses)), right / asked))
                losses, right, asked = [], 0, 0
            if time.monotonic() - saved > SAVE_EVERY_S or ended:
                state.language = network.state_dict()
                state.optimisers = [learner.state_dict() for learner in learners]
                state.save()
                saved = time.monotonic()
    finally:
        workers.shutdown()
        pool.close()


def _pool(plan: Plan, features: Features, step: int, kept: Sequence[Example] = ()) -> Pool:
    """Examples of memories of all sizes; of the node's memory while the rate decays."""
    cooling = step >= plan.language_steps - plan.cooling_steps
    return Pool(lambda: examples(features, plan.seed * 1_000_000 + step, plan.longest_min, real=cooling), kept)


def _rate_factor(plan: Plan, step: int) -> float:
    """Factor of the learning rate: linear warm-up, constant, linear decay."""
    return min((step + 1) / 200, 1.0, max((plan.language_steps - step) / plan.cooling_steps, 0.01))


class _State:
    """State of a run, saved in one file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.plans: list[tuple[int, dict[str, Any]]] = []  # settings and the step from which they applied
        self.vision: dict[str, Any] | None = None
        self.language: dict[str, Any] | None = None
        self.optimisers: list[dict[str, Any]] = []
        self.scores: dict[str, float] = {}
        self.step = 0
        self.language_s = 0.0
        self.history: list[tuple[str, int, float, float]] = []  # stage, step, loss, accuracy

    @classmethod
    def load(cls, folder: Path, plan: Plan) -> _State:
        state = cls(folder / "run.pt")
        if state.file.exists():
            vars(state).update(torch.load(state.file, weights_only=True))
            begun = state.plans[0][1]["seed"]
            if begun != plan.seed:
                raise ValueError(f"{state.file} has seed {begun}: use another folder, or the same seed.")
        if not state.plans or state.plans[-1][1] != asdict(plan):
            state.plans.append((state.step, asdict(plan)))
        return state

    def note(self, stage: str, step: int, loss: float, accuracy: float = float("nan")) -> None:
        self.history.append((stage, step, loss, accuracy))

    def save(self) -> None:
        values = {name: value for name, value in vars(self).items() if name != "file"}
        partial = self.file.with_suffix(".partial")
        torch.save(values, partial)
        partial.replace(self.file)
        draw_curves(self.history, self.file.with_name("curves.png"))


def _command(settings: dict[str, Any]) -> str:
    given = (f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
    return " ".join(["flash-vstream-ros train-demo FOLDER", *given])


def _finish(folder: Path, network: Any, tokenizer: Any, state: _State) -> Path:
    model = folder / "model"
    network.save_pretrained(model)
    with_normaliser(tokenizer).save_pretrained(model)
    record = {
        "commands": [(step, _command(settings)) for step, settings in state.plans],  # (first step, command)
        "language_minutes": round(state.language_s / 60, 1),
        "vision_accuracy": {name: round(value, 4) for name, value in state.scores.items()},
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": str(network.device),
        "history": [(stage, step, round(loss, 4), round(accuracy, 4)) for stage, step, loss, accuracy in state.history],
    }
    (model / "training.json").write_text(json.dumps(record, allow_nan=True, indent=None) + "\n", encoding="utf-8")
    draw_curves(state.history, model / "curves.png")
    return model
