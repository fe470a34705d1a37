"""NaVQA: frames, poses and answers of its layout, errors instead of accuracies, and files that are wrong."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_miniatures import NAVQA_START, coda_frame, navqa, write_json
from video_files import corner_image

from flash_vstream_ros.cli import main
from flash_vstream_ros.evaluation.benchmarks import BENCHMARKS
from flash_vstream_ros.evaluation.benchmarks.benchmark import load_items, read_items
from flash_vstream_ros.evaluation.coda_frames import CodaFrames
from flash_vstream_ros.evaluation.item import AnswerKind, DataError, Item
from flash_vstream_ros.evaluation.parsing import minutes
from flash_vstream_ros.evaluation.protocol import streams_of
from flash_vstream_ros.evaluation.records import Record, read_records
from flash_vstream_ros.evaluation.sampled_video import SampledVideo
from flash_vstream_ros.evaluation.scoring import grade, totals
from flash_vstream_ros.memory.pose import Pose, UnknownPose

BENCHMARK = BENCHMARKS["navqa"]


def items_of(folder: Path) -> dict[str, Item]:
    items, _ = load_items(BENCHMARK, folder, partial=True)
    return {item.task: item for item in items}


def test_questions_have_their_own_beginning_and_a_form_for_the_answer(tmp_path: Path) -> None:
    navqa(tmp_path)
    items = items_of(tmp_path)
    assert {task: (item.answer, item.kind) for task, item in items.items()} == {
        "binary": ("yes", AnswerKind.YES_NO),
        "position [m]": ("3.0, 4.0, 0.0", AnswerKind.POSITION),
        "time [min]": ("0.05", AnswerKind.MINUTES),
        "duration [min]": ("2.5", AnswerKind.MINUTES),
        "text": ("the left one", AnswerKind.OPEN),
    }
    assert items["position [m]"].prompt == items["position [m]"].question == "Where is the bin?"
    assert items["time [min]"].prompt.startswith("When did you turn?\nHow many minutes ago")
    interval = items["position [m]"].start_s, items["position [m]"].time_s
    assert interval == (pytest.approx(4, abs=1e-5), pytest.approx(8, abs=1e-5))
    assert len(streams_of(list(items.values()))) == 3, "questions with the same beginning share a stream"


def test_frames_have_their_colours_times_and_poses(tmp_path: Path) -> None:
    navqa(tmp_path)
    video = SampledVideo(CodaFrames, tmp_path / "coda_data" / "0", fps=2.0, start_s=4.0)
    assert video.count_until(6.0) == 5
    assert video.stamp_ns(0) == pytest.approx(4e9, abs=1000)
    assert np.array_equal(video.image(0), corner_image(8, 96, 128)), "OpenCV's order of channels is turned round"
    pose = video.pose(2)
    assert isinstance(pose, Pose)
    assert pose.position == (10.0, 0.0, 0.0)
    video.close()


def test_a_place_is_where_a_frame_of_the_interval_was_recorded(tmp_path: Path) -> None:
    navqa(tmp_path)
    parameters: dict[str, Any] = {"model": {"name": "tiny-random", "max_pixels": 12544}}
    parameters["memory"] = {"synopsis_slots": 5, "key_frame_slots": 3}
    file = write_json(tmp_path / "tiny.yaml", {"/**": {"ros__parameters": parameters}})
    command = ["evaluate", "--data", str(tmp_path), "--set", "navqa", "--out", str(tmp_path / "out"), "--partial"]
    assert main([*command, "--params-file", str(file), "--max-new-tokens", "2", "--methods", "ours", "last_4"]) == 0
    records = read_records(tmp_path / "out" / "answers.jsonl")
    x, y, z = map(float, records["ours", "SHORT_position"].response.split(","))
    assert (y, z) == (0.0, 0.0)
    assert x in range(8, 17), "from 4 to 8 s, at two frames and two metres a second"
    assert records["last_4", "SHORT_position"].response == ""
    assert records["ours", "SHORT_position"].frames == 9


def test_errors_are_distances_and_no_accuracy(tmp_path: Path) -> None:
    navqa(tmp_path)
    items = items_of(tmp_path)
    position = items["position [m]"]
    near = grade(BENCHMARK, position, Record("ours", position.id, "0.0, 0.0, 0.0"))
    unknown = grade(BENCHMARK, position, Record("no_vision", position.id, ""))
    assert (near.error, near.is_unparsable) == (5.0, False)
    assert (unknown.error, unknown.is_unparsable) == (None, True)
    late = grade(BENCHMARK, items["time [min]"], Record("ours", "t", "It was 63 seconds ago."))
    assert late.error == pytest.approx(1.0)
    both = totals([near, unknown])
    assert (both.n, both.accuracy, both.mean_error, both.unparsable) == (2, None, 5.0, 1)
    right = grade(BENCHMARK, items["binary"], Record("ours", "b", "Yes, there was."))
    assert (right.is_right, right.published) == (True, 0.0)
    assert totals([near, right]).accuracy == 1.0


@pytest.mark.parametrize(
    ("response", "number"),
    [
        ("2.5", 2.5),
        ("About 3 minutes ago.", 3.0),
        (".75 minutes", 0.75),
        ("1 hour", 60.0),
        ("90 seconds", 1.5),
        ("2 or 3", None),
        ("5 minutes and 10 seconds", None),
        ("long ago", None),
    ],
)
def test_minutes(response: str, number: float | None) -> None:
    found = minutes(response)
    assert (None if found is None else float(found)) == number


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "smell"}, "0/human_qa.json, data 0: type 'smell' is none of binary, position"),
        ({"end_time": "now"}, "data 0 has no end_time that is a number"),
        ({"answers": {"text": ["perhaps", "perhaps"]}}, "data 0, answers: the answer 'perhaps' is neither yes nor no"),
        ({"type": "position", "answers": {"position": [1, 2]}}, "position has 2 instead of 3 coordinates"),
        ({"type": "time", "answers": {"text": ["?"]}}, "data 0, answers has no time that is a number; it has text"),
        ({"id": "SHORT_text"}, "several questions have the id SHORT_text"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = navqa(tmp_path)
    content = json.loads(path.read_text())
    content["data"][0] |= change
    write_json(path, content)
    with pytest.raises(DataError, match=message):
        read_items(BENCHMARK, tmp_path, partial=True)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"questions has no folder with human_qa.json of the sequences 0, 3"):
        read_items(BENCHMARK, tmp_path)
    path = navqa(tmp_path)
    with pytest.raises(DataError, match=r"binary 1 instead of 67, duration \[min\] 1 instead of 9"):
        read_items(BENCHMARK, tmp_path)
    (path.parents[1] / "3").mkdir()
    with pytest.raises(DataError, match=r"3/human_qa.json cannot be read"):
        read_items(BENCHMARK, tmp_path, partial=True)


class Intruder:
    """Pickles to a call, as harmful files do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm"),)


def test_damaged_and_harmful_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = coda_frame(tmp_path / "0", NAVQA_START, (math.nan, 0.0, 0.0), 1)
    assert CodaFrames(path.parent).pose(0) == UnknownPose("not_finite")
    for content, message in (
        (pickle.dumps({"cam0": Intruder()}), "it contains pathlib"),
        (path.read_bytes()[:1000], "is no pickle of arrays"),
        (pickle.dumps([1]), "has no dictionary"),
        (pickle.dumps({"cam0": np.zeros((2, 2))}), "has no cam0 that is an image"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            list(CodaFrames(path.parent))
    assert not (tmp_path / "harm").exists()
    path.rename(path.with_name("first.pkl"))
    with pytest.raises(DataError, match=r"first.pkl is not named by a time"):
        CodaFrames(path.parent)
