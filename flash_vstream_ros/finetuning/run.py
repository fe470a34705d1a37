"""Runs a fine-tuning: memories, answers before, training, answers after, report. An interrupted run is resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from flash_vstream_ros.evaluation.settings_file import check_settings
from flash_vstream_ros.models.interface import ModelError, VisionLanguageModel
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.names import ADAPTER_CONFIG, TINY, is_adapter
from flash_vstream_ros.models.qwen2_vl import Qwen2VL
from flash_vstream_ros.node.settings import Settings, settings_from
from flash_vstream_ros.process import set_torch_threads
from flash_vstream_ros.progress import progress

from .answers import AFTER, BEFORE, answer, responses, scores, unanswered, with_responses
from .curves import draw_losses
from .examples import Example, moments, raise_problems, read_examples, split
from .memories import BadMoment, MemoryFolder, OpenFrames, snapshots
from .plan import Plan
from .prompts import Prompts
from .trainer import Point, train

ANSWERS, SETTINGS, REPORT, LOSSES = "answers.jsonl", "settings.json", "finetune.json", "loss.png"
# Parameters that change neither a memory nor an answer.
PLACES = ("model.name", "model.device", "model.vision_device", "model.threads", "model.attention")


@dataclass(frozen=True)
class Finetuning:
    """What to do. `parameters` are those of the node, by name."""

    data: Path
    parameters: Mapping[str, Any]
    output: Path
    plan: Plan
    check: Path | None = None  # questions that are only asked, before and after
    keep: Path | None = None  # questions whose answers shall not change
    memories: Path | None = None  # None: a folder in `output`
    frames_fps: float = 1.0  # rate of recordings without times [1/s]
    gradient_checkpointing: bool = True
    version: str = ""  # of this package, for the report

    @property
    def settings(self) -> Settings:
        """The node's settings; with several processes, each with a GPU of its own."""
        settings = settings_from(self.parameters)
        state = PartialState(cpu=settings.model["device"] == "cpu")
        if settings.model["device"] == "auto" and state.num_processes > 1:
            settings.model["device"] = str(state.device)
        return settings


@dataclass(frozen=True)
class Questions:
    """The examples of a run."""

    training: list[Example]
    held_out: list[Example]
    check: list[Example]
    keep: list[Example]  # without answers

    @classmethod
    def of(cls, run: Finetuning) -> Questions:
        """Read and split the files of a run. Raises DataError."""
        training, held_out = split(read_examples(run.data), run.plan.held_out, run.plan.seed)
        check = read_examples(run.check) if run.check else []
        return cls(training, held_out, check, read_examples(run.keep, needs_answers=False) if run.keep else [])

    @property
    def asked(self) -> list[Example]:
        """Those that are asked before and after."""
        return [*self.held_out, *self.check]

    @property
    def all(self) -> list[Example]:
        return [*self.training, *self.asked, *self.keep]


def finetune(run: Finetuning, open_frames: OpenFrames, warn: Callable[[str], None]) -> dict[str, Any]:
    """Fine-tune a model. Returns the report, which is also written to the folder.

    Raises DataError, ModelError, ValueError and OSError.
    """
    settings, state = run.settings, PartialState()
    questions = Questions.of(run)
    run.plan.accumulation(state.num_processes)
    base = _base(settings.model["name"])
    if state.is_main_process:
        check_settings(run.output / SETTINGS, _settings(run), "--output")
    state.wait_for_everyone()
    set_torch_threads(settings.torch_threads)
    model = _model(settings.model, base)
    _check_answers(model, questions.training)
    memories = MemoryFolder(run.memories or run.output / "memories", _made_with(run, model))
    _build(model, settings, questions.all, memories, open_frames, warn)
    _ask(model, settings, [*questions.asked, *questions.keep], memories, run.output, BEFORE)
    points = _train(model, run, questions, memories, base)
    del model  # frees its memory before the next one is loaded
    tuned = _model({**settings.model, "name": str(run.output)}, base)
    _ask(tuned, settings, questions.asked, memories, run.output, AFTER)
    report = _report(run, questions, points)
    if state.is_main_process:
        draw_losses(points, run.output / LOSSES)
        (run.output / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def _base(name: str) -> str:
    """The model that the adapter names as its base. Raises ModelError."""
    if name == TINY:
        raise ModelError(f"{TINY} has random weights, created in memory: fine-tune the model of a folder or of the hub")
    folder = Path(name).expanduser()
    if is_adapter(folder):
        raise ModelError(
            f"{folder} is a LoRA adapter ({ADAPTER_CONFIG}): fine-tune its base model, or merge it and save the result"
        )
    return str(folder.absolute()) if folder.is_dir() else name


def _model(arguments: Mapping[str, Any], base: str) -> Qwen2VL:
    if arguments["quantization"] != "none":
        raise ModelError("an adapter cannot be merged into quantised weights: use model.quantization none")
    model: VisionLanguageModel = load_model(**arguments)
    if not isinstance(model, Qwen2VL):
        raise ModelError(f"{base} is no Qwen-VL: only the families of Qwen2-VL, Qwen2.5-VL and Qwen3-VL are fine-tuned")
    return model


def _check_answers(model: Qwen2VL, examples: Sequence[Example]) -> None:
    """Raise DataError with the answers that the model cannot give."""
    problems = [(example, _spelling_problem(model, example.answer)) for example in examples]
    raise_problems([f"{example.where}: {problem}" for example, problem in problems if problem])


def _spelling_problem(model: Qwen2VL, text: str) -> str:
    try:
        model.answer_ids(text)
    except ValueError as error:
        return str(error)
    return ""


def _build(
    model: Qwen2VL,
    settings: Settings,
    examples: Sequence[Example],
    memories: MemoryFolder,
    open_frames: OpenFrames,
    warn: Callable[[str], None],
) -> None:
    """Build the missing memories, each recording in one of the processes. Raises DataError with all bad ones."""
    state = PartialState()
    own = list(moments(examples))[state.process_index :: state.num_processes]
    config = replace(settings.engine, warm_up=False)
    problems: list[str] = []
    with progress("memories", len(own)) as display:
        for source, wanted in own:
            if missing := memories.missing(wanted):
                try:
                    for moment, snapshot in snapshots(model, config, source, missing, open_frames, warn):
                        memories.write(moment, snapshot)
                except ModelError:
                    raise
                except (BadMoment, RuntimeError, OSError, ValueError) as error:
                    failed = memories.missing(missing)[0]  # those before it are written
                    where = next(example.where for example in examples if example.moment == failed)
                    problems.append(f"{where}: {source}: {error}")
            display.advance()
    raise_problems(problems)
    state.wait_for_everyone()


def _ask(
    model: Qwen2VL, settings: Settings, examples: Sequence[Example], memories: MemoryFolder, folder: Path, when: str
) -> None:
    """Record the answers that are missing, each question in one of the processes."""
    state = PartialState()
    waiting = unanswered(folder / ANSWERS, when, examples)[state.process_index :: state.num_processes]
    state.wait_for_everyone()
    with progress(f"answers {when}", len(waiting)) as display:
        limit = settings.engine.max_new_tokens
        answer(model, memories, waiting, limit, folder / ANSWERS, when, display.advance)
    state.wait_for_everyone()


def _train(model: Qwen2VL, run: Finetuning, questions: Questions, memories: MemoryFolder, base: str) -> list[Point]:
    # The model learns its own answers of before, so that it does not forget them.
    kept = with_responses(run.output / ANSWERS, BEFORE, questions.keep)
    training = Prompts(model, memories, [*questions.training, *kept])
    held_out = Prompts(model, memories, questions.held_out)
    with progress("train") as display:

        def report(step: int, steps: int, loss: float) -> None:
            display.update(step, steps, f"train: loss {loss:.3f}")

        return train(model, run.plan, training, held_out, run.output, base, run.gradient_checkpointing, report)


def _made_with(run: Finetuning, model: Qwen2VL) -> dict[str, Any]:
    """What the memories of a run depend on besides the recordings."""
    return {
        "weights": model.fingerprint(),
        "dtype": str(model.dtype),
        "frames_fps": run.frames_fps,
        "parameters": {name: value for name, value in run.parameters.items() if name not in PLACES},
    }


def _settings(run: Finetuning) -> dict[str, Any]:
    """What a resumed run must have in common with the interrupted one."""
    return {
        "data": _version(run.data),
        "check": _version(run.check) if run.check else [],
        "keep": _version(run.keep) if run.keep else [],
        "frames_fps": run.frames_fps,
        "plan": asdict(run.plan),
        "parameters": dict(run.parameters),
    }


def _version(path: Path) -> list[str]:
    """Path and hash of a data file: with other lines, recorded answers would be those of other questions."""
    return [str(path.absolute()), hashlib.sha256(path.read_bytes()).hexdigest()]


def _report(run: Finetuning, questions: Questions, points: Sequence[Point]) -> dict[str, Any]:
    import peft
    import torch
    import transformers

    path = run.output / ANSWERS
    sets = {"held_out": questions.held_out, "check": questions.check}
    return {
        **_settings(run),
        "processes": PartialState().num_processes,
        "questions": {
            "training": len(questions.training),
            **{name: len(own) for name, own in sets.items()},
            "keep": len(questions.keep),
        },
        "scores": {
            name: {when: scores(path, when, own) for when in (BEFORE, AFTER)} for name, own in sets.items() if own
        },
        "losses": [point._asdict() for point in points],
        "answers": {name: responses(path, own) for name, own in sets.items() if own},
        "versions": {
            "flash_vstream_ros": run.version,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    }
