"""Fine-tuning: the prompt is the node's, a resumed run equals an uninterrupted one, the adapter runs in the engine."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hub_models import FAMILIES, save_hub_model
from safetensors.torch import load_file
from video_files import write_video

from flash_vstream_ros.cli import main
from flash_vstream_ros.engine.answering.question import Question
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.offline import OfflineEngine
from flash_vstream_ros.evaluation.item import DataError
from flash_vstream_ros.finetuning.answers import with_responses
from flash_vstream_ros.finetuning.examples import Example, Moment, read_examples
from flash_vstream_ros.finetuning.memories import MemoryFolder
from flash_vstream_ros.finetuning.plan import Plan
from flash_vstream_ros.finetuning.prompts import Prompts, collated
from flash_vstream_ros.finetuning.run import Finetuning, _build, _check_answers, _made_with, _model
from flash_vstream_ros.finetuning.trainer import train
from flash_vstream_ros.models.confidence import CONFIDENCE_KEY
from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.model_kind import without_label
from flash_vstream_ros.models.names import is_demo_model
from flash_vstream_ros.node.offline_parameters import parameter_values
from flash_vstream_ros.node.settings import Settings, settings_from

pytest.importorskip("peft")

WEIGHTS = "adapter_model.safetensors"
PARAMETERS = """\
/**:
  ros__parameters:
    model: {name: %s, device: cpu, max_pixels: 12544}
    sample_fps: 2.0
    question: {max_new_tokens: 12}
    memory: {synopsis_slots: 3, key_frame_slots: 2}
"""
PLAN = Plan(held_out=0.0, epochs=4.0, learning_rate=1e-2, batch=2, device_batch=2, rank=4, save_steps=2)


class Setup(NamedTuple):
    """A base model, its parameters, and questions about two videos."""

    base: Path
    params: Path
    data: Path
    keep: Path  # questions without answers

    @property
    def settings(self) -> Settings:
        return settings_from(parameter_values(str(self.params), None))


def setup_in(folder: Path, family: str) -> Setup:
    base = save_hub_model(folder / family, family)
    params = folder / "params.yaml"
    params.write_text(PARAMETERS % base)
    size = (128, 160)
    for name, frames in (("walk", 12), ("rest", 9)):
        write_video(folder / f"{name}.mp4", range(0, 500 * frames, 500), size=size)
    asked = [
        {"video": "walk.mp4", "question": "Where is the ball?", "answer": "in the hall", "kind": "where"},
        {"video": "walk.mp4", "time": 3.2, "question": "Where?", "answer": "here", "kind": "where"},
        {"video": "rest.mp4", "question": "Who was there?", "answer": "Ann", "kind": "who"},
        {"video": "rest.mp4", "since": 1, "question": "Who?", "answer": "nobody at all", "kind": "who"},
    ]
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in asked))
    keep = folder / "keep.jsonl"
    keep.write_text("".join(json.dumps({"video": "walk.mp4", "question": text}) + "\n" for text in ("When?", "Why?")))
    return Setup(base, params, data, keep)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return setup_in(tmp_path_factory.mktemp("finetune"), "qwen2_vl")


def prompts(setup: Setup, folder: Path, dtype: str = "float32") -> Prompts:
    """The prompts of all examples, of a newly loaded model."""
    from flash_vstream_ros.cli.finetune import _frames

    examples, model = read_examples(setup.data), _model({**setup.settings.model, "dtype": dtype}, "")
    memories = MemoryFolder(folder, {})
    _build(model, setup.settings, examples, memories, partial(_frames, fps=1.0), pytest.fail)
    return Prompts(model, memories, examples)


def finetune(setup: Setup, out: Path, *more: str) -> int:
    options = ["--epochs", "4", "--learning-rate", "1e-2", "--batch", "2", "--device-batch", "2", "--rank", "4"]
    place = ["--params-file", str(setup.params), "--output", str(out)]
    return main(["finetune", str(setup.data), *place, *options, *more])


def whole_options(setup: Setup) -> list[str]:
    return ["--held-out", "0.5", "--check", str(setup.data), "--keep", str(setup.keep)]


class Run(NamedTuple):
    """A finished fine-tuning, and its report."""

    folder: Path
    report: dict[str, Any]


@pytest.fixture(scope="module")
def tuned(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run") / "tuned"
    assert finetune(setup, out, *whole_options(setup)) == 0
    return Run(out, json.loads((out / "finetune.json").read_text()))


@torch.inference_mode()
def decoded_logits(generation: Any, tokens: list[int]) -> torch.Tensor:
    """Logits [tokens, vocabulary] of an answer that the node would decode token by token, if it chose `tokens`."""
    rows = []
    for token in tokens:
        rows.append(generation._next_logits())
        generation._newest, generation._logits = token, None
    return torch.stack(rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_decoding_the_answer_in_the_node(family: str, tmp_path: Path) -> None:
    setup = setup_in(tmp_path, family)
    given = prompts(setup, tmp_path / "memories")
    for prompt, example in zip(given, read_examples(setup.data), strict=False):
        generation = given._model.answer(given._memories.read(example.moment), example.question, 99)
        expected = decoded_logits(generation, prompt.labels.tolist())
        with torch.no_grad():
            output = given._model.network(**collated([prompt]))
        assert torch.allclose(output.logits[0, :-1], expected, atol=1e-4)
        loss = torch.nn.functional.cross_entropy(expected, prompt.labels)
        assert torch.allclose(output.loss, loss, atol=1e-4)
        assert given._model._vocabulary.decode(prompt.labels[:-1].tolist()) == example.answer
        assert int(prompt.labels[-1]) in given._model._vocabulary.stops


def test_padding_does_not_change_the_loss(setup: Setup, tmp_path: Path) -> None:
    given = prompts(setup, tmp_path)
    network, rows = given._model.network, [given[number] for number in range(4)]
    assert len({len(row.embeds) for row in rows}) > 1
    with torch.no_grad():
        alone = [network(**collated([row])).loss * len(row.labels) for row in rows]
        together = network(**collated(rows)).loss * sum(len(row.labels) for row in rows)
    assert torch.allclose(together, torch.stack(alone).sum(), rtol=1e-5)


def test_a_resumed_run_equals_an_uninterrupted_one(setup: Setup, tmp_path: Path) -> None:
    def train_in(name: str, plan: Plan, on_step: Callable[[int, int, float], None]) -> Any:
        given = prompts(setup, tmp_path / "memories")
        nothing = Prompts(given._model, given._memories, [])
        return train(given._model, plan, given, nothing, tmp_path / name, "base", True, on_step)

    def interrupt(step: int, steps: int, loss: float) -> None:
        assert steps == 8
        if step == 5:
            raise KeyboardInterrupt

    whole = train_in("whole", PLAN, lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        train_in("parts", PLAN, interrupt)
    assert sorted(path.name for path in (tmp_path / "parts" / "checkpoints").iterdir()) == [
        "checkpoint-2",
        "checkpoint-4",
    ]
    (tmp_path / "parts" / "checkpoints" / "checkpoint-4" / "trainer_state.json").unlink()  # as if killed while saving
    steps: list[int] = []
    parts = train_in("parts", PLAN, lambda step, *_: steps.append(step))
    assert steps == [3, 4, 5, 6, 7, 8]
    assert parts == whole
    assert [point.step for point in whole] == list(range(1, 9))
    one, other = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "parts"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(one[name].any() for name in one if "lora_B" in name)


def test_gradient_checkpointing_changes_nothing(setup: Setup, tmp_path: Path) -> None:
    curves = []
    for has_checkpoints in (True, False):
        given = prompts(setup, tmp_path / "memories")
        plan, nothing = replace(PLAN, epochs=1.0), Prompts(given._model, given._memories, [])
        out = tmp_path / str(has_checkpoints)
        curves.append(train(given._model, plan, given, nothing, out, "base", has_checkpoints, lambda *_: None))
    assert [point.loss for point in curves[0]] == pytest.approx([point.loss for point in curves[1]], rel=1e-4)


def test_adapters_of_half_precision_weights_are_trained_in_single_precision(setup: Setup, tmp_path: Path) -> None:
    given = prompts(setup, tmp_path / "memories", dtype="bfloat16")
    plan, nothing = replace(PLAN, epochs=1.0), Prompts(given._model, given._memories, [])
    assert given[0].embeds.dtype == torch.bfloat16
    points = train(given._model, plan, given, nothing, tmp_path / "out", "base", True, lambda *_: None)
    assert all(point.loss is not None and math.isfinite(point.loss) for point in points)
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / WEIGHTS).values()} == {torch.float32}


def test_a_loss_that_is_not_finite_is_reported(setup: Setup, tmp_path: Path) -> None:
    given = prompts(setup, tmp_path / "memories")
    given._model.network.lm_head.weight.data[0] = math.nan
    nothing = Prompts(given._model, given._memories, [])
    with pytest.raises(ModelError, match="the loss of step 1 is nan: lower --learning-rate"):
        train(given._model, PLAN, given, nothing, tmp_path / "out", "base", True, lambda *_: None)


def test_the_report_has_settings_losses_and_scores(setup: Setup, tuned: Run) -> None:
    report = tuned.report
    assert report["questions"] == {"training": 2, "held_out": 2, "check": 4, "keep": 2}
    assert report["plan"]["rank"] == 4
    assert report["parameters"]["memory.synopsis_slots"] == 3
    losses = [point["loss"] for point in report["losses"] if point["loss"] is not None]
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    held_out = [point["step"] for point in report["losses"] if point["held_out_loss"] is not None]
    assert held_out == [0, 2, 4, 6, 8]
    check = report["scores"]["check"]
    assert {kind: score["n"] for kind, score in check["after"].items()} == {"all": 4, "where": 2, "who": 2}
    assert check["after"]["all"]["f1"] >= check["before"]["all"]["f1"]
    assert (tuned.folder / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_answers_to_keep_are_those_of_the_base(setup: Setup, tuned: Run) -> None:
    path, questions = tuned.folder / "answers.jsonl", read_examples(setup.keep, needs_answers=False)
    kept = with_responses(path, "before", questions)
    model = _model(setup.settings.model, "")
    run = Finetuning(setup.data, parameter_values(str(setup.params), None), tuned.folder, PLAN)
    memories = MemoryFolder(tuned.folder / "memories", _made_with(run, model))
    for example in kept:
        tokens = model.answer(memories.read(example.moment), example.question, 12)
        assert example.answer == "".join(token.text for token in tokens).strip()
    assert [example.question for example in kept] == ["When?", "Why?"]


def test_the_adapter_differs_from_its_base_and_runs_in_the_engine(setup: Setup, tuned: Run) -> None:
    config = json.loads((tuned.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(setup.base)
    settings = setup.settings
    answers = {}
    for name in (str(setup.base), str(tuned.folder)):
        model: Any = _model({**settings.model, "name": name}, name)
        engine = OfflineEngine(model, settings.engine, pytest.fail)
        from flash_vstream_ros.cli.finetune import _frames

        for stamp_ns, rgb in _frames(str(setup.data.parent / "walk.mp4"), 1.0):
            engine.add(Frame("camera", "", max(stamp_ns, 1), lambda rgb=rgb: rgb))  # type: ignore[misc]
        engine.finish()
        answer = engine.ask(Question("Where is the ball?", deadline_s=1000.0))
        assert not answer.error_code, answer.error_msg
        assert len({evidence.entry.kind for evidence in answer.evidence}) == 2, "of CSM and of DAM"
        answers[name] = without_label(answer.text)
        engine.close()
    recorded = {one["question"]: one for one in tuned.report["answers"]["check"]}["Where is the ball?"]
    assert answers[str(setup.base)] == recorded["before"]
    assert answers[str(tuned.folder)] == recorded["after"]
    assert recorded["before"] != recorded["after"]


def test_a_finished_run_is_not_trained_again(setup: Setup, tuned: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = (tuned.folder / WEIGHTS).read_bytes()
    assert finetune(setup, tuned.folder, *whole_options(setup)) == 0
    assert (tuned.folder / WEIGHTS).read_bytes() == before
    assert json.loads((tuned.folder / "finetune.json").read_text()) == tuned.report
    shown = capsys.readouterr().out
    assert "held out, all" in shown
    assert "check, who" in shown
    assert f"node --model {tuned.folder}" in shown


def test_another_run_in_the_folder_is_refused(setup: Setup, tuned: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune(setup, tuned.folder, "--held-out", "0.25") == 1
    assert "other settings (check, keep, plan): give another --output" in capsys.readouterr().err


def test_changed_questions_are_another_run(setup: Setup, tuned: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = setup.keep.read_text()
    try:
        setup.keep.write_text(before.replace("When?", "How?"))
        assert finetune(setup, tuned.folder, *whole_options(setup)) == 1
    finally:
        setup.keep.write_text(before)
    assert "other settings (keep): give another --output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"video": "walk.mp4", "time": 99}, ("line 5", "walk.mp4", "time is 99", "after the last frame")),
        ({"video": "data.jsonl"}, ("line 5", "data.jsonl: no video in")),
    ],
)
def test_what_only_the_work_shows_is_named_before_training(
    setup: Setup, tmp_path: Path, line: dict[str, Any], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    data = setup.data.with_name("bad.jsonl")
    data.write_text(setup.data.read_text() + json.dumps({"question": "?", "answer": "x", **line}) + "\n")
    assert finetune(setup._replace(data=data), tmp_path / "out", "--held-out", "0") == 1
    shown = capsys.readouterr().err
    assert all(word in shown for word in words), shown
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_an_answer_that_cannot_be_generated_is_named(setup: Setup) -> None:
    model, examples = _model(setup.settings.model, ""), read_examples(setup.data)
    _check_answers(model, examples)
    model._vocabulary.suppressed[model.answer_ids("Ann")[0]] = True
    with pytest.raises(DataError) as error:
        _check_answers(model, examples)
    assert "line 3" in str(error.value)
    assert "cannot spell the answer 'Ann'" in str(error.value)
    assert "line 1" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [("tiny-random", "random weights"), ("ADAPTER", "is a LoRA adapter"), ("/no/model", "no model folder")],
)
def test_a_model_that_cannot_be_fine_tuned_is_refused(
    setup: Setup, tuned: Run, tmp_path: Path, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tuned.folder) if name == "ADAPTER" else name
    assert finetune(setup, tmp_path / "out", "--model", model) == 1
    assert words in capsys.readouterr().err


def test_the_confidence_of_the_base_does_not_hold_for_an_adapter(tmp_path: Path, tuned: Run, setup: Setup) -> None:
    file = setup.base / "config.json"
    plain = file.read_text()
    file.write_text(json.dumps({**json.loads(plain), CONFIDENCE_KEY: [0.1, 0.2, 0.3]}))
    try:
        fitted = [
            _model({**setup.settings.model, "name": str(name)}, "").calibration.fitted
            for name in (setup.base, tuned.folder)
        ]
    finally:
        file.write_text(plain)
    assert fitted == [True, False]


def test_an_adapter_of_the_household_model_is_a_demo_model(tmp_path: Path) -> None:
    config = tmp_path / "adapter_config.json"
    for base, expected in (("household", True), ("owner/model", False), (None, False)):
        config.write_text(json.dumps({"base_model_name_or_path": base}))
        assert is_demo_model(str(tmp_path)) is expected


def test_an_example_is_known_by_its_line() -> None:
    assert Example("data.jsonl, line 3", Moment("walk"), "?", "!").id == "data.jsonl, line 3"
