"""The training run: both stages. It is saved every few minutes, and resumed after an interruption."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flash_vstream_ros.demo.grammar import Part
from flash_vstream_ros.demo.scoring import CANNOT_TELL
from flash_vstream_ros.models.confidence import CONFIDENCE_KEY, DECLINES_KEY
from flash_vstream_ros.models.decoding.grouped_attention import use_kernel
from flash_vstream_ros.models.prompt import ChatPrompt

from .branches import training_kernel
from .calibration import calibrate
from .curriculum import Curriculum, Lesson
from .curves import draw_curves
from .examples import Example
from .language import Batcher, answers_right, loss_and_hits
from .network import household_network, household_tokenizer
from .observations import Observations, render_observations
from .optimisers import optimisers
from .patrols import Composer, Features, encode_observations, patrol_examples
from .plan import Plan
from .pool import Pool, visual_tokens
from .vision import train_vision

SAVE_EVERY_S = 120.0
REPORT_STEPS = 50
CALIBRATION_MOMENTS = 4  # per held-out patrol
HELD_OUT_PATROLS = 10**9  # number of the first held-out patrol
RATE_WARM_UP_STEPS, MIN_RATE_FACTOR = 200, 0.01


@dataclass(frozen=True)
class Progress:
    """Progress of a stage: `done` of `steps`."""

    stage: str
    done: int
    steps: int
    loss: float
    accuracy: float  # of whole answers; NaN if the stage has none


def train(
    plan: Plan,
    folder: Path,
    device: torch.device,
    report: Callable[[Progress], None],
    set_threads: Callable[[int], None] = lambda count: None,
) -> Path:
    """Train in `folder`, or resume the run there. Returns the folder of the finished model.

    `set_threads` limits PyTorch's CPU threads; every thread that computes gradients calls it. Raises ValueError if the
    folder has a run with other settings, if the settings contradict one another, or if PyTorch is too old.
    """
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"Training needs the Muon optimiser of PyTorch 2.9 or later; this is {torch.__version__}.")
    plan.check()
    folder.mkdir(parents=True, exist_ok=True)
    state = _State.load(folder, plan)
    tokenizer = household_tokenizer()
    network = household_network(tokenizer, plan.seed).to(device)
    observations = render_observations(folder, plan.seed, os.cpu_count() or 1)
    if state.vision is None:
        _train_vision(plan, network, observations, state, report)
    network.model.visual.load_state_dict(state.vision)
    network.model.visual.requires_grad_(False)
    features = encode_observations(network, observations, plan.seed)
    with use_kernel(network.config.text_config, training_kernel(device)):
        _train_language(plan, network, tokenizer, state, features, report, set_threads)
    network.load_state_dict(state.averaged)
    batcher = Batcher(network, tokenizer, ChatPrompt.of(tokenizer))
    state.calibration = calibrate(
        network.eval(), batcher, _held_out_examples(plan, features), plan.questions, plan.seed
    )
    return _finish(folder, network, tokenizer, state)


def _held_out_examples(plan: Plan, features: Features) -> Iterator[Example]:
    """Examples of held-out patrols, with a memory of the node's sizes and some wordings never trained on."""
    for patrol in range(plan.calibration):
        seed = (plan.seed, HELD_OUT_PATROLS + patrol)
        lesson = Lesson(full_size=True, part=Part.FIT, crowded=patrol % 2 == 1)
        yield from patrol_examples(Composer(features), seed, plan.longest_min, lesson, CALIBRATION_MOMENTS)


def _train_vision(
    plan: Plan, network: Any, observations: Observations, state: _State, report: Callable[[Progress], None]
) -> None:
    def report_vision(step: int, loss: float) -> None:
        state.record("vision", step, loss)
        report(Progress("vision", step, plan.vision_steps, loss, float("nan")))

    def store(unfinished: dict[str, Any]) -> None:
        if state.save_due():
            state.unfinished_vision = unfinished
            state.save()

    state.scores = train_vision(
        network,
        observations,
        plan.vision_steps,
        plan.seed,
        network.device,
        report_vision,
        state.unfinished_vision,
        store,
    )
    state.vision, state.unfinished_vision = network.model.visual.state_dict(), None
    state.save()


def _train_language(
    plan: Plan,
    network: Any,
    tokenizer: Any,
    state: _State,
    features: Features,
    report: Callable[[Progress], None],
    set_threads: Callable[[int], None],
) -> None:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    learners = optimisers(network, plan.matrix_rate, plan.language_rate)
    if state.language is not None:
        network.load_state_dict(state.language)
        for learner, kept in zip(learners, state.optimisers, strict=True):
            learner.load_state_dict(kept)
    batcher = Batcher(network, tokenizer, ChatPrompt.of(tokenizer))
    curriculum = Curriculum(plan)
    composer = Composer(features)

    def patrol(number: int) -> Iterator[Example]:
        lesson = curriculum.lesson(number)
        return patrol_examples(composer, (plan.seed, number), plan.longest_min, lesson)

    def gradients(chosen: list[Example], seed: int) -> _Gradients:
        questions, drills = curriculum.texts_per_prompt(state.step)
        batch = batcher(chosen, questions, drills, np.random.default_rng(seed))
        with torch.autocast(network.device.type, torch.bfloat16):
            loss, hits = loss_and_hits(network, batch)
        values = torch.autograd.grad(loss, parameters)
        return _Gradients(values, float(loss.detach()), *answers_right(batch, hits, batcher.stop))

    pool = Pool(patrol, state.step, curriculum)
    began = time.monotonic() - state.language_s
    losses: list[float] = []
    right = asked = 0
    every = torch.get_num_threads()
    parts_per_step = min(plan.parts, plan.batch)
    at_once = min(parts_per_step, every)
    threads = every // at_once
    set_threads(threads)  # for the optimisers: threads that share small matrices wait for one another
    workers = ThreadPoolExecutor(at_once, "gradients", set_threads, (threads,))
    try:
        while state.step < plan.language_steps:
            _set_rates(plan, learners, state.step)
            draw = np.random.default_rng((plan.seed, state.step))
            chosen = [pool.draw(state.step, plan.batch // parts_per_step, draw) for _ in range(parts_per_step)]
            chosen.sort(key=lambda part: -sum(map(visual_tokens, part)))  # so that all cores end at about the same time
            parts = list(workers.map(gradients, chosen, draw.integers(1 << 40, size=parts_per_step).tolist()))
            _apply(parts, parameters, learners)
            state.step += 1
            if state.step == plan.third_steps:
                state.third = {name: value.clone() for name, value in network.state_dict().items()}
            losses.append(float(np.mean([part.loss for part in parts])))
            right, asked = right + sum(part.right for part in parts), asked + sum(part.asked for part in parts)
            ended = state.step == plan.language_steps
            if state.step % REPORT_STEPS == 0 or ended:
                state.language_s = time.monotonic() - began
                state.record("language", state.step, float(np.mean(losses)), right / asked)
                report(Progress("language", state.step, plan.language_steps, float(np.mean(losses)), right / asked))
                losses, right, asked = [], 0, 0
                if state.save_due() or ended:
                    state.language = network.state_dict()
                    state.optimisers = [learner.state_dict() for learner in learners]
                    state.save()
    finally:
        set_threads(every)
        workers.shutdown()
        pool.close()


class _Gradients(NamedTuple):
    """Gradients of one part of a batch, and the number of questions in it that were answered right."""

    values: tuple[Tensor, ...]
    loss: float
    right: int
    asked: int


def _set_rates(plan: Plan, learners: Sequence[Optimizer], step: int) -> None:
    for learner, rate in zip(learners, (plan.matrix_rate, plan.language_rate), strict=True):
        for group in learner.param_groups:
            group["lr"] = rate * _rate_factor(plan, step)


def _apply(parts: Sequence[_Gradients], parameters: Sequence[nn.Parameter], learners: Sequence[Optimizer]) -> None:
    """Take a step with the mean gradients of all parts, clipped to a norm of 1."""
    for parameter, *shares in zip(parameters, *(part.values for part in parts), strict=True):
        parameter.grad = torch.stack(shares).mean(0)
    nn.utils.clip_grad_norm_(parameters, 1.0)
    for learner in learners:
        learner.step()


def _rate_factor(plan: Plan, step: int) -> float:
    """Factor of the learning rate in a cycle: linear warm-up, constant, linear decay (WSD-S, Wen et al. 2024)."""
    start, end, cooling = next(cycle for cycle in plan.cycles if step < cycle[1])
    return min((step - start + 1) / RATE_WARM_UP_STEPS, 1.0, max((end - step) / max(cooling, 1), MIN_RATE_FACTOR))


class _State:
    """State of a run, saved in one file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.plan: dict[str, Any] = {}
        self.unfinished_vision: dict[str, Any] | None = None
        self.vision: dict[str, Any] | None = None
        self.third: dict[str, Any] | None = None  # weights at the end of the third cycle
        self.language: dict[str, Any] | None = None
        self.optimisers: list[dict[str, Any]] = []
        self.scores: dict[str, float] = {}
        self.calibration: dict[str, Any] = {}
        self.saved = time.monotonic()
        self.step = 0
        self.language_s = 0.0
        self.history: list[tuple[str, int, float, float]] = []  # stage, step, loss, accuracy

    @classmethod
    def load(cls, folder: Path, plan: Plan) -> _State:
        state = cls(folder / "run.pt")
        if state.file.exists():
            vars(state).update(torch.load(state.file, weights_only=True))
            changed = [
                f"{name} {state.plan.get(name)}"
                for name, value in asdict(plan).items()
                if state.plan.get(name) != value
            ]
            if changed:
                raise ValueError(
                    f"{state.file} was begun with {', '.join(changed)}: give the same settings, or another folder."
                )
        state.plan, state.saved = asdict(plan), time.monotonic()
        return state

    @property
    def averaged(self) -> dict[str, Any]:
        """Mean of the weights at the ends of the last two cycles, which generalises better than either."""
        assert self.third is not None, "the third cycle has not ended"
        assert self.language is not None, "the training has not ended"
        return {name: torch.lerp(self.third[name], last, 0.5) for name, last in self.language.items()}

    def record(self, stage: str, step: int, loss: float, accuracy: float = float("nan")) -> None:
        self.history.append((stage, step, loss, accuracy))

    def save_due(self) -> bool:
        return time.monotonic() - self.saved > SAVE_EVERY_S

    def save(self) -> None:
        values = {name: value for name, value in vars(self).items() if name not in ("file", "saved")}
        partial = self.file.with_suffix(".partial")
        torch.save(values, partial)
        partial.replace(self.file)
        self.saved = time.monotonic()
        draw_curves(self.history, self.file.with_name("curves.png"))


def _command(settings: dict[str, Any]) -> str:
    options = (f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
    return " ".join(["flash-vstream-ros train-demo FOLDER", *options])


def _finish(folder: Path, network: Any, tokenizer: Any, state: _State) -> Path:
    model = folder / "model"
    setattr(network.config, CONFIDENCE_KEY, state.calibration["weights"])
    setattr(network.config, DECLINES_KEY, CANNOT_TELL)
    network.save_pretrained(model)
    tokenizer.save_pretrained(model)
    record = {
        "command": _command(state.plan),
        "calibration": state.calibration,
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
