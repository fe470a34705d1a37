"""`evaluate`: the streaming protocol with the household model and patrols, controls, resumption and every benchmark."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from benchmark_miniatures import (
    navqa,
    ovo,
    rvs_conversations,
    slvqa,
    streaming_proactive,
    streaming_real,
    streaming_sqa,
    vs_flat,
)
from judge_server import JudgeServer, server
from tiny_engine import ask, running, settled, wait_until
from video_files import corner_image

from flash_vstream_ros.cli import main
from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.evaluation.item import AnswerKind, Item, Polls
from flash_vstream_ros.evaluation.judge import URL
from flash_vstream_ros.evaluation.methods import Reply
from flash_vstream_ros.evaluation.protocol import Stream, answers
from flash_vstream_ros.evaluation.records import Record, append_record, read_records
from flash_vstream_ros.evaluation.run import device_of_process
from flash_vstream_ros.evaluation.sampled_video import SampledVideo
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.model_kind import without_label
from flash_vstream_ros.models.prompt import INSTRUCTION
from flash_vstream_ros.node.offline_parameters import parameter_values
from flash_vstream_ros.node.settings import settings_from

__all__ = ["server"]  # a fixture

HOUSEHOLD = str(Path(__file__).parents[1] / "config" / "household.yaml")
MOMENTS_S = (100.0, 230.0)
QUESTIONS = 10  # at each moment
METHODS = ("ours", "published", "uniform_64", "last_4", "no_vision")
EXACT = ("room_now", "seen", "where", "colour", "room_first", "room_before", "person")
TIMES = ("first_token_s", "duration_s")


class Patrol(NamedTuple):
    """A patrol as RVS-Ego, and the results of all methods on it."""

    data: Path
    out: Path
    result: dict[str, Any]
    questions: list[tuple[str, str, float]]


def evaluate(data: Path, name: str, out: Path, *more: str) -> int:
    return main(["evaluate", "--data", str(data), "--set", name, "--out", str(out), "--partial", *more])


def on_patrol(data: Path, out: Path, *methods: str, judge: str = "") -> int:
    judging = ["--judge", judge] if judge else []
    model = ["--params-file", HOUSEHOLD, "--frames-fps", "0.5", "--instruction", INSTRUCTION]
    return evaluate(data, "rvs_ego", out, *model, *judging, "--methods", *methods)


@pytest.fixture(scope="module")
def patrol(tmp_path_factory: pytest.TempPathFactory) -> Patrol:
    folder = tmp_path_factory.mktemp("patrol")
    world, rng = World(5, MOMENTS_S[-1] / 60), np.random.default_rng(5)
    frames = folder / "data" / "rvs" / "ego" / "ego4d_frames" / "walk"
    frames.mkdir(parents=True)
    for number in range(int(MOMENTS_S[-1] / 2) + 1):
        small = cv2.resize(world.frame(2.0 * number), (112, 112), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(frames / f"frame_{number}.png"), small[..., ::-1])
    asked = []
    for now in MOMENTS_S:
        exact = [one for one in questions(world.visits, now, rng) if one.kind in EXACT and one.minutes is None]
        asked += [(one.text, one.answer, now) for one in exact[:QUESTIONS]]
    rvs_conversations(folder, asked)
    out = folder / "out"
    assert on_patrol(folder, out, *METHODS) == 0
    return Patrol(folder, out, json.loads((out / "result.json").read_text()), asked)


def timeless(path: Path) -> dict[tuple[str, str], Record]:
    """Records by method and item, without durations."""
    return {key: replace(record, **dict.fromkeys(TIMES, 0.0)) for key, record in read_records(path).items()}


def test_memory_beats_the_controls(patrol: Patrol) -> None:
    assert len(patrol.questions) >= 15
    scores = {method: patrol.result["scores"][method]["micro"] for method in METHODS}
    assert all(totals["n"] == len(patrol.questions) and not totals["failed"] for totals in scores.values())
    accuracy = {method: totals["accuracy"] for method, totals in scores.items()}
    assert accuracy["ours"] >= 0.9
    assert accuracy["ours"] > max(accuracy["last_4"], accuracy["no_vision"]) + 0.2


def test_the_result_states_every_setting(patrol: Patrol) -> None:
    result = patrol.result
    assert (result["benchmark"], result["fps"], result["instruction"]) == ("rvs_ego", 0.5, INSTRUCTION)
    assert result["parameters"]["model.name"] == "household"
    assert result["parameters"]["memory.synopsis_slots"] == 72
    assert (result["questions"], result["published_questions"], result["judge"]) == (len(patrol.questions), 1465, "")


def test_answers_come_with_tokens_bytes_and_times(patrol: Patrol) -> None:
    records = list(read_records(patrol.out / "answers.jsonl").values())
    ours = [record for record in records if record.method == "ours"]
    assert all(record.first_token_s > 0 and record.memory_bytes > 0 for record in ours)
    assert max(record.memory_tokens for record in ours) <= 352
    assert any(record.cached_tokens for record in ours), "the second question about a memory uses the prefix cache"
    assert {record.memory_tokens for record in records if record.method == "last_4"} == {32}
    assert {record.frames for record in ours} == {int(now / 2) + 1 for now in MOMENTS_S}


def test_answers_are_those_of_the_node(patrol: Patrol) -> None:
    settings = settings_from(parameter_values(HOUSEHOLD, None))
    world_frames = sorted(
        (patrol.data / "data" / "rvs" / "ego" / "ego4d_frames" / "walk").iterdir(),
        key=lambda path: int(path.stem.split("_")[1]),
    )
    said = []
    with running(settings.engine, lambda: load_model(**settings.model)) as (engine, _):
        for number, path in enumerate(world_frames):
            rgb = cv2.imread(str(path))[..., ::-1]
            engine.offer(Frame("camera", "", max(1, 2_000_000_000 * number), lambda rgb=rgb: rgb))
            wait_until(lambda: settled(engine))
            asked = [text for text, _, now in patrol.questions if int(now / 2) == number]
            said += [without_label(ask(engine, text).text) for text in asked]
    records = read_records(patrol.out / "answers.jsonl")
    assert said == [records["ours", f"walk/{number}"].response for number in range(len(said))]


def test_a_resumed_run_equals_an_uninterrupted_one(patrol: Patrol, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(patrol.out, out)
    lines = (patrol.out / "answers.jsonl").read_bytes().splitlines(keepends=True)
    kept = len(patrol.questions) + 7  # all of the first method, and some of the second
    (out / "answers.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:40])
    assert on_patrol(patrol.data, out, *METHODS[:2]) == 0
    before = timeless(patrol.out / "answers.jsonl")
    assert timeless(out / "answers.jsonl") == {key: before[key] for key in before if key[0] in METHODS[:2]}
    scores = json.loads((out / "result.json").read_text())["scores"]
    assert scores == {method: patrol.result["scores"][method] for method in METHODS[:2]}


def test_a_judge_scores_answers_that_are_there_already(
    patrol: Patrol, tmp_path: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(patrol.out, out)
    monkeypatch.setenv(URL, server.url)
    assert on_patrol(patrol.data, out, "ours", judge="judge-1") == 0
    result = json.loads((out / "result.json").read_text())
    totals = result["scores"]["ours"]["micro"]
    assert result["judge"] == "judge-1"
    assert (totals["n"], totals["accuracy"], totals["as_published"], totals["score"]) == (
        len(patrol.questions),
        0.0,
        0.0,
        1.0,
    )
    said = {(text, record.response) for (text, _, _), record in zip(patrol.questions, _ours(out), strict=True)}
    assert len(server.requests) == len(said)


def _ours(out: Path) -> list[Record]:
    return [record for key, record in read_records(out / "answers.jsonl").items() if key[0] == "ours"]


def test_other_settings_need_another_folder(patrol: Patrol, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(patrol.data, "rvs_ego", patrol.out, "--params-file", HOUSEHOLD, "--fps", "1") == 1
    assert "answers of other settings (fps, frames_fps, instruction): give another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "name", "numbers", "methods"),
    [
        (vs_flat, "vs_movie", 2, ("recent", "uniform")),
        (streaming_real, "streaming_bench_real", 3, ("last_4", "published")),
        (streaming_sqa, "streaming_bench_sqa", 2, ("no_vision",)),
        (streaming_proactive, "streaming_bench_proactive", 1, ()),
        (ovo, "ovo_bench", 6, ("uniform_64",)),
        (navqa, "navqa", 5, ("no_vision",)),
        (slvqa, "slvqa_memory", 2, ()),
    ],
)
def test_every_benchmark_goes_from_its_files_to_a_table(
    make: Any, name: str, numbers: int, methods: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path)
    (tmp_path / "tiny.yaml").write_text(
        "/**: {ros__parameters: {model: {name: tiny-random, max_pixels: 12544},"
        " memory: {synopsis_slots: 5, key_frame_slots: 3}}}"
    )
    options = ["--params-file", str(tmp_path / "tiny.yaml"), "--max-new-tokens", "4", "--methods", "ours", *methods]
    assert evaluate(tmp_path, name, tmp_path / "out", *options) == 0
    shown = capsys.readouterr().out
    assert f"| micro | {numbers} |" in shown
    assert "| method | n | unparsable | failed |" in shown
    assert ("| real-time only |" in shown) == (name == "ovo_bench")
    assert ("| mean error |" in shown) == (name == "navqa")
    scores = json.loads((tmp_path / "out" / "result.json").read_text())["scores"]
    assert {own["micro"]["failed"] for own in scores.values()} == {0}
    assert sum(totals["n"] for totals in scores["ours"]["tasks"].values()) == numbers


@pytest.mark.slow
def test_several_processes_give_the_answers_of_one(tmp_path: Path) -> None:
    ovo(tmp_path, chunked=True)  # six videos
    for processes in ("1", "2"):
        options = ["--model", "tiny-random", "--max-new-tokens", "4", "--processes", processes]
        assert evaluate(tmp_path, "ovo_bench", tmp_path / processes, *options) == 0
    one, two = (timeless(tmp_path / processes / "answers.jsonl") for processes in ("1", "2"))
    assert one == two
    assert len(one) == 6


def test_processes_share_the_gpus_evenly() -> None:
    assert [device_of_process("auto", number, 3) for number in range(5)] == [
        "cuda:0",
        "cuda:1",
        "cuda:2",
        "cuda:0",
        "cuda:1",
    ]
    assert device_of_process("cuda:1", 2, 3) == "cuda:1", "a device that is named is used by all"
    assert device_of_process("auto", 2, 1) == device_of_process("auto", 2, 0) == "auto"


def test_a_video_that_cannot_be_read_fails_its_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    streaming_real(tmp_path)
    (tmp_path / "videos" / "sample_1_real.mp4").write_bytes(b"no video")
    options = ["--model", "tiny-random", "--methods", "ours", "last_4"]
    assert evaluate(tmp_path, "streaming_bench_real", tmp_path / "out", *options) == 0
    assert "| ours | 3 | 0 | 3 |" in capsys.readouterr().out
    records = read_records(tmp_path / "out" / "answers.jsonl").values()
    assert all("sample_1_real.mp4: no video in" in record.error for record in records)


def test_missing_data_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(tmp_path / "nowhere", "ovo_bench", tmp_path / "out") == 1
    assert "--data names the folder with the data of OVO-Bench" in capsys.readouterr().err
    assert evaluate(tmp_path, "ovo_bench", tmp_path / "out", "--judge", "judge-1") == 1
    assert "OPENAI_BASE_URL" in capsys.readouterr().err


class Recorder:
    """A method that notes what it is asked, and says yes from a number of frames on."""

    def __init__(self, yes_from: int = 1000) -> None:
        self.asked: list[tuple[int, str]] = []
        self._yes_from = yes_from

    def ask(self, frames: int, prompt: str, max_new_tokens: int) -> Reply:
        self.asked.append((frames, prompt))
        return Reply("Yes." if frames >= self._yes_from else "No.")

    def close(self) -> None:
        """Nothing to close."""


def counted_frames(read: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Ten frames a second for a minute; `read` gets their numbers as they are read."""
    for number in range(600):
        read.append(number)
        yield number * 100_000_000, corner_image(number % 12)


def test_a_question_gets_the_frames_up_to_its_time_only() -> None:
    read: list[int] = []
    video = SampledVideo(lambda path: counted_frames(read), Path("v"), 2.0)
    later, early = (
        Item(name, Path("v"), time_s, name, "", AnswerKind.OPEN, "all") for name, time_s in (("b", 5.0), ("a", 2.0))
    )
    method = Recorder()
    records = answers(method, "ours", Stream(Path("v"), (later, early)), video, 8)
    assert next(records).id == "a"
    assert video.stamp_ns(method.asked[0][0] - 1) == 2_000_000_000
    assert read[-1] <= 25, "the video is not read on"
    assert next(records).id == "b"
    assert method.asked == [(5, "a"), (11, "b")]
    assert np.abs(video.image(3).astype(int) - corner_image(15 % 12)).max() == 0
    video.close()


@pytest.mark.parametrize(("yes_from", "asked_s", "said"), [(5, 5.0, "Yes."), (100, 6.0, "")])
def test_polls_end_with_yes(yes_from: int, asked_s: float, said: str) -> None:
    video = SampledVideo(lambda path: counted_frames([]), Path("v"), 1.0)
    polls = Polls((3.0, 4.0, 5.0, 6.0), "now?", 5.0)
    item = Item("1", Path("v"), 6.0, "what?", "", AnswerKind.PROACTIVE, "t", polls=polls)
    method = Recorder(yes_from + 1)
    (record,) = answers(method, "ours", Stream(Path("v"), (item,)), video, 8)
    assert (record.asked_s, record.response) == (asked_s, said)
    assert [prompt for _, prompt in method.asked].count("now?") == asked_s - 2
    video.close()


def test_a_record_cut_off_by_a_crash_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    first, second = Record("ours", "1", "a \u2028 b"), Record("ours", "2", error="x")
    append_record(path, first)
    with path.open("a") as file:
        file.write(json.dumps(asdict(second))[:20])
    assert read_records(path) == {("ours", "1"): first}
    append_record(path, second)
    assert list(read_records(path).values()) == [first, second]
