"""The plug-in of lmms-eval: a run of lmms-eval on a small task gives the answers of `clip` and of `evaluate`.

The runs need lmms-eval, which is not among the test dependencies: docs/evaluation.md says how to install and run them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from benchmark_miniatures import VIDEO_S, navqa, rvs_conversations, streaming_real, video, write_json
from conftest import PACKAGE_FOLDER, ROOT
from PIL import Image

from flash_vstream_ros.cli import main
from flash_vstream_ros.evaluation.benchmarks import BENCHMARKS
from flash_vstream_ros.evaluation.records import read_records
from flash_vstream_ros.lmms_eval_plugin.clip import Clip, clip_of
from flash_vstream_ros.lmms_eval_plugin.model_args import DEVICE, model_args
from flash_vstream_ros.models.model_kind import without_label
from flash_vstream_ros.node.offline_parameters import BadParameters

TASKS = Path(PACKAGE_FOLDER) / "flash_vstream_ros" / "lmms_eval_plugin" / "tasks"
HOUSEHOLD = str(ROOT / "config" / "household.yaml")
TINY = "pretrained=tiny-random,device=cpu,model.max_pixels=12544,memory.synopsis_slots=5,memory.key_frame_slots=3"
QUESTIONS = ("What is red?", "Which colour has the wall?", "How many chairs are there?")
INSTRUCTION = "Answer in a few words."
TOKENS = 5
PATIENCE_S = 600
needs_lmms_eval = pytest.mark.skipif(find_spec("lmms_eval") is None, reason="lmms-eval is not installed")

MINI = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {documents}
test_split: test
output_type: {output_type}
doc_to_text: !function {name}.text
doc_to_visual: !function {name}.visual
doc_to_target: answer
process_results: !function {name}.results
generation_kwargs:
  max_new_tokens: 5
metric_list:
  - metric: right
    aggregation: mean
    higher_is_better: true
"""
CODE = """
def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]

def visual(doc):
    return [doc["video"]]

def results(doc, results):
    return {"right": float(doc["answer"] in str(results))}
"""
ROUNDS = """
def text(doc, lmms_eval_specific_kwargs=None, previous_output=None, round_idx=None, previous_round_info=None):
    if round_idx is None:
        return doc["question"]
    if round_idx == 3:
        return None, None, True, previous_output, None
    return [doc["video"]], f"{doc['question']} {round_idx}", False, previous_output, None
"""


def test_arguments_become_settings_of_a_run() -> None:
    args = model_args({"pretrained": "tiny-random", "fps": 2, "method": "fluxmem", "memory.synopsis_slots": 38})
    assert (args.fps, args.method, args.run.instruction) == (2.0, "fluxmem", "")
    assert args.run.parameters["model.name"] == "tiny-random"
    part = Clip(Path("v"), fps=0.5)
    assert (args.at_rate_of(part).fps, model_args({}).at_rate_of(part).fps) == (2.0, 0.5)
    assert model_args({}).at_rate_of(Clip(Path("v"))).fps == 1.0
    assert args.run.settings.engine.memory.csm_slots == 38
    assert model_args({"archive.max_gib": 2}).run.parameters["archive.max_gib"] == 2.0
    assert model_args({DEVICE: "cpu"}, "cuda:3").run.parameters[DEVICE] == "cuda:3"
    assert model_args({"params_file": HOUSEHOLD}).run.parameters["model.name"] == "household"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "best"}, "method is 'best', which is none of ours, recent"),
        ({"memory.slots": 3}, r"memory\.slots is neither an argument"),
        ({"fps": 0}, "fps is 0, but must be a rate"),
        ({"memory.synopsis_slots": -1}, r"memory\.synopsis_slots' must be from 1"),
    ],
)
def test_wrong_arguments_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameters, match=message):
        model_args(given)


def test_visual_inputs() -> None:
    assert clip_of([["/v/a.mp4"]], 1.0) == Clip(Path("/v/a.mp4"))
    assert clip_of([], 1.0) is clip_of(None, 1.0) is None
    part = Clip(Path("v"), 1.0, 2.0)
    assert clip_of([part], 1.0) is part
    images = clip_of([Image.new("L", (4, 2), shade) for shade in (0, 90)], 2.0)
    assert images is not None
    assert images.open_video is not None
    frames = list(images.open_video(images.video))
    assert [stamp for stamp, _ in frames] == [0, 500_000_000]
    assert np.array_equal(frames[1][1], np.full((2, 4, 3), 90, np.uint8))
    with pytest.raises(ValueError, match="about one video; this one has 2 visual inputs"):
        clip_of(["a.mp4", "b.mp4"], 1.0)
    with pytest.raises(ValueError, match="reads videos and images, not dict"):
        clip_of([{"array": 1}], 1.0)


def test_there_is_a_task_for_each_streaming_benchmark_that_lmms_eval_lacks() -> None:
    polled = "streaming_bench_proactive"  # asked every second, which no task of lmms-eval can do
    assert {path.stem for path in TASKS.glob("*.yaml")} == set(BENCHMARKS) - {polled, "ovo_bench"}
    for path in TASKS.glob("*.yaml"):
        assert path.read_text().startswith(f"task: flash_vstream_{path.stem}\n")
        assert f"  set: {path.stem}\n" in path.read_text()
    shown = subprocess.run([sys.executable, "-m", "flash_vstream_ros.lmms_eval_plugin"], capture_output=True, text=True)
    assert shown.stdout.strip() == str(TASKS)


class Run(NamedTuple):
    """The responses of each task in the order of its documents, and the log."""

    responses: dict[str, list[Any]]
    log: str


def lmms_eval(folder: Path, tasks: Path, names: str, model: str, **environment: str) -> Run:
    """Run lmms-eval without a network."""
    installed, out = folder / "installed", folder / "out"  # the entry point, as an installation of this package has it
    installed.mkdir()
    egg_info = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(installed)]
    subprocess.run(egg_info, cwd=ROOT, check=True, capture_output=True)
    paths = [str(installed), str(ROOT), os.environ.get("PYTHONPATH", "")]
    offline = {"HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    own = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **offline, **environment}
    run = [sys.executable, "-m", "lmms_eval", "--model", "flash_vstream", "--model_args", model, "--tasks", names]
    output = ["--include_path", str(tasks), "--output_path", str(out), "--log_samples"]
    # In `folder`: metadata that an old installation left in the repository would come first.
    done = subprocess.run([*run, *output], cwd=folder, env=own, capture_output=True, text=True, timeout=PATIENCE_S)
    found = {}
    for name in names.split(","):
        files = list(out.rglob(f"*_samples_{name}.jsonl"))
        assert len(files) == 1, f"{done.stdout}\n{done.stderr}"[-6000:]  # lmms-eval's exit status is 0 after an error
        samples = map(json.loads, files[0].read_text().splitlines())
        ordered = sorted(samples, key=lambda sample: int(sample["doc_id"]))
        found[name] = [_stripped(sample["filtered_resps"]) for sample in ordered]
    return Run(found, done.stdout + done.stderr)


def _stripped(response: Any) -> Any:
    return response.strip() if isinstance(response, str) else response


def mini_task(tasks: Path, name: str, code: str, path: Path, output_type: str = "generate_until") -> None:
    """A task with QUESTIONS about one video."""
    documents = tasks / f"{name}.jsonl"
    lines = [json.dumps({"video": str(path), "question": question, "answer": "red"}) for question in QUESTIONS]
    documents.write_text("\n".join(lines))
    (tasks / f"{name}.py").write_text(code)
    (tasks / f"{name}.yaml").write_text(MINI.format(name=name, documents=documents, output_type=output_type))


def clip_answer(capsys: pytest.CaptureFixture[str], path: Path, question: str, *more: str) -> str:
    assert main(["clip", str(path), question, "--max-new-tokens", str(TOKENS), *more]) == 0
    return without_label(capsys.readouterr().out.strip())


@needs_lmms_eval
@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE_S)
def test_lmms_eval_gives_the_answers_of_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = video(tmp_path / "room.mp4")
    mini_task(tmp_path, "mini", CODE, path)
    mini_task(tmp_path, "rounds", CODE + ROUNDS, path, "generate_until_multi_round")
    samples, _ = lmms_eval(tmp_path, tmp_path, "mini,rounds", f"{TINY},method=published,instruction={INSTRUCTION}")
    options = ["--model", "tiny-random", "--device", "cpu", "--max-pixels", "12544", "--instruction", INSTRUCTION]
    sizes = ["--synopsis-slots", "5", "--key-frame-slots", "3"]
    rounds = [QUESTIONS[0], f"{QUESTIONS[0]} 1", f"{QUESTIONS[0]} 2"]
    said = {text: clip_answer(capsys, path, text, *options, *sizes) for text in {*QUESTIONS, *rounds}}
    assert samples["mini"] == [said[text] for text in QUESTIONS]
    assert [answer.strip() for answer in samples["rounds"][0]] == [said[text] for text in rounds]
    assert len(set(said.values())) > 1, "the answers differ, so that equal ones prove something"


@needs_lmms_eval
@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE_S)
def test_the_household_model_answers_from_the_memory_of_the_node_as_through_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = video(tmp_path / "room.mp4")
    mini_task(tmp_path, "mini", CODE, path)
    samples, log = lmms_eval(tmp_path, tmp_path, "mini", f"params_file={HOUSEHOLD},fps=0.5,instruction={INSTRUCTION}")
    options = ("--model", "household", "--instruction", INSTRUCTION)
    said = [clip_answer(capsys, path, question, *options) for question in QUESTIONS]
    assert samples["mini"] == said
    assert re.search(r"3 answers, 0 failed; .* from the prefix cache [1-9]", log), log[-3000:]


@needs_lmms_eval
@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE_S)
def test_tasks_of_streaming_benchmarks_give_the_answers_of_evaluate(tmp_path: Path) -> None:
    from flash_vstream_ros.lmms_eval_plugin.streaming_task import ordered_items

    data = tmp_path / "data"
    asked = [(question, "red", VIDEO_S - 3.0 * number) for number, question in enumerate(QUESTIONS)]
    rvs_conversations(data / "rvs_ego", asked)
    video(data / "rvs_ego" / "data" / "rvs" / "ego" / "videos" / "walk.mp4")
    streaming_real(data / "streaming_bench_real")
    navqa(data / "navqa")
    names = ("rvs_ego", "streaming_bench_real", "navqa")
    own = {"FLASH_VSTREAM_BENCHMARKS": str(data), "FLASH_VSTREAM_PARTIAL": "1"}
    tasks = ",".join(f"flash_vstream_{name}" for name in names)
    samples, _ = lmms_eval(tmp_path, TASKS, tasks, TINY, **own)
    parameters: dict[str, Any] = {"model": {"name": "tiny-random", "device": "cpu", "max_pixels": 12544}}
    parameters["memory"] = {"synopsis_slots": 5, "key_frame_slots": 3}
    file = write_json(tmp_path / "tiny.yaml", {"/**": {"ros__parameters": parameters}})
    for name in names:
        out = tmp_path / f"evaluated_{name}"
        command = ["evaluate", "--data", str(data / name), "--set", name, "--out", str(out), "--partial"]
        assert main([*command, "--params-file", str(file)]) == 0
        records = read_records(out / "answers.jsonl").values()
        said = {record.id: record.response.strip() for record in records}
        assert samples[f"flash_vstream_{name}"] == [said[item.id] for item in ordered_items(BENCHMARKS[name], own)]
        assert "".join(said.values()), "the answers are not empty"
