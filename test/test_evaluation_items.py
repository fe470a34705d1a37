"""Official annotations become items; what is wrong or missing is named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from benchmark_miniatures import (
    ovo,
    rvs_conversations,
    slvqa,
    streaming_proactive,
    streaming_real,
    streaming_sqa,
    video,
    vs_flat,
    write_json,
)

from flash_vstream_ros.engine.memory_policies import POLICIES
from flash_vstream_ros.evaluation.benchmarks import BENCHMARKS
from flash_vstream_ros.evaluation.benchmarks.benchmark import load_items, read_items
from flash_vstream_ros.evaluation.benchmarks.streaming_bench import options_of
from flash_vstream_ros.evaluation.item import WHOLE_VIDEO, AnswerKind, DataError, Item
from flash_vstream_ros.evaluation.method_names import CONTROLS
from flash_vstream_ros.evaluation.method_names import POLICIES as EVALUATED_POLICIES
from flash_vstream_ros.evaluation.methods import CONTROL_CLASSES

REAL_DATA = "FLASH_VSTREAM_BENCHMARKS"  # folder with a folder of real data per set


def items_of(name: str, folder: Path) -> list[Item]:
    items, left_out = load_items(BENCHMARKS[name], folder, partial=True)
    assert not left_out
    return items


def test_every_offered_method_exists() -> None:
    assert set(CONTROL_CLASSES) == set(CONTROLS)
    assert set(EVALUATED_POLICIES) <= set(POLICIES)


def test_rvs_has_the_time_of_each_question(tmp_path: Path) -> None:
    rvs_conversations(tmp_path, [("What is cut?", "A leek.", 8.0), ("Where?", "Kitchen.", 4.5)])
    path = video(tmp_path / "data" / "rvs" / "ego" / "videos" / "walk.mp4")
    items = items_of("rvs_ego", tmp_path)
    assert [(item.video, item.time_s, item.answer) for item in items] == [
        (path, 8.0, "A leek."),
        (path, 4.5, "Kitchen."),
    ]
    assert BENCHMARKS["rvs_ego"].fps == 0.5


def test_vs_is_about_whole_videos(tmp_path: Path) -> None:
    vs_flat(tmp_path)
    items = items_of("vs_movie", tmp_path)
    assert {item.time_s for item in items} == {WHOLE_VIDEO}
    assert [(item.id, item.task, item.kind) for item in items] == [
        ("7", "2", AnswerKind.OPEN),
        ("8", "1", AnswerKind.OPEN),
    ]


def test_released_rvs_annotations_without_times_are_refused(tmp_path: Path) -> None:
    entry = {"video_id": "a", "question": "?", "id": 1, "answer": "b", "answer_type": 1, "duration": 3}
    write_json(tmp_path / "vstream-realtime" / "test_qa_ego4d.json", [entry])
    with pytest.raises(DataError, match="entry 0 has no end_time"):
        items_of("rvs_ego", tmp_path)


def test_streaming_bench_adds_missing_letters_and_joins_split_options(tmp_path: Path) -> None:
    streaming_real(tmp_path)
    first, second, third = items_of("streaming_bench_real", tmp_path)
    assert (first.time_s, second.time_s, third.time_s) == (10.0, 4.0, 5.0)
    assert "B. two\n" in first.prompt
    assert "A. thing A\n" in second.prompt
    assert third.options == ("one", "two", "three of them", "four")
    assert first.video == second.video


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        (["A. 1", "C. 3", "B. 2", "D. 4"], ["1", "2", "3", "4"]),
        (["A. 1", "B. 2", "B. 3", "D. 4"], ["1", "2", "3", "4"]),
        (["A.one", "two", "three", "four"], ["one", "two", "three", "four"]),
        (["A. 1", "", "B. 2", "and a half", "C. 3"], ["1", "2 and a half", "3"]),
    ],
)
def test_damaged_options_of_the_official_files(texts: list[str], options: list[str]) -> None:
    assert options_of(texts) == options


def test_sqa_tells_the_true_answers_of_earlier_questions(tmp_path: Path) -> None:
    streaming_sqa(tmp_path)
    first, second = items_of("streaming_bench_sqa", tmp_path)
    assert "Bob" in first.prompt
    assert "Who serves? Answer: B. Bob." not in first.prompt
    assert "At 4 s: Who serves? Answer: B. Bob." in second.prompt


def test_proactive_is_polled_every_second_until_four_seconds_after_the_truth(tmp_path: Path) -> None:
    streaming_proactive(tmp_path)
    (item,) = items_of("streaming_bench_proactive", tmp_path)
    assert item.polls is not None
    assert item.polls.times == (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)
    assert item.ask_times == item.polls.times


@pytest.mark.parametrize("chunked", [False, True])
def test_ovo_unrolls_its_forward_tasks(chunked: bool, tmp_path: Path) -> None:
    ovo(tmp_path, chunked)
    items = {item.id: item for item in items_of("ovo_bench", tmp_path)}
    assert {name: (item.answer, item.part, item.time_s) for name, item in items.items()} == {
        "0": ("B", "backward", 6.0),
        "1": ("A", "real-time", 5.5),
        "2_0": ("no", "forward", 4.0),
        "2_1": ("yes", "forward", 9.5),
        "3_0": ("yes", "forward", 5.0),
        "4_0": ("1", "forward", 6.0),
    }
    assert len({item.video for item in items.values()}) == (6 if chunked else 1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"options": {"A": "Leek", "B": "Bread"}},
        {"options": ["Leek", "Bread"], "answer": "bread"},
        {"options": ["(A) Leek", "(B) Bread"]},
        {"options": ["a) Leek", "b) Bread"]},
        {"answer": 1},
        {"answer": " b "},
    ],
)
def test_slvqa_accepts_several_forms_of_options_and_answers(changes: dict[str, Any], tmp_path: Path) -> None:
    slvqa(tmp_path, **changes)
    first, second = items_of("slvqa_memory", tmp_path)
    assert (first.id, first.options, first.answer, first.time_s) == ("7", ("Leek", "Bread"), "B", 6.0)
    assert (second.options, second.answer) == (("IN", "OUT", "UP"), "C")
    assert first.video == second.video
    assert "\nB. Bread\n" in first.prompt


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "C"}, "line 1: answer 'C' is none of 2 options"),
        ({"answer": 2}, "line 1: answer 2 is none of 2 options"),
        ({"answer": "1"}, "line 1: answer '1' is none of 2 options"),
        ({"answer": "C", "options": ["C", "D", "E"]}, "line 1: answer 'C' fits several of 3 options"),
        ({"answer": None}, "line 1 has no answer that is a whole number"),
        ({"options": ["A. Leek"]}, "line 1: options has 1 options"),
        ({"options": {"A": "Leek", "C": "Bread"}}, "the keys of options are A, C instead of A, B, ..."),
        ({"options": {"1": "Leek", "2": "Bread"}}, "the keys of options are 1, 2 instead of A, B, ..."),
        ({"task": "OCR"}, "task 'OCR' is none of EPM, ASI, HLD"),
    ],
)
def test_a_wrong_field_of_slvqa_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    slvqa(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        items_of("slvqa_memory", tmp_path)


def test_options_of_slvqa_keep_their_first_characters(tmp_path: Path) -> None:
    for options, answer in ([".5", ".25"], 1), ([":30", ":45"], ":45"), (["STOP", "Stop!"], "Stop!"), (["1", "2"], "2"):
        slvqa(tmp_path, options=options, answer=answer)
        first, _ = items_of("slvqa_memory", tmp_path)
        assert (list(first.options), first.answer) == (options, "B")
    path = slvqa(tmp_path, question="What is\u2028this?")
    path.write_text(path.read_text().replace("\\u2028", "\u2028") + "\n\n")
    assert [item.id for item in items_of("slvqa_memory", tmp_path)] == ["7", "8"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": 1, "task": "EPM", "question": "Which?", "alternatives": []}', "none of the fields options, choices"),
        ("[", "line 1 is no JSON object"),
        ("7", "line 1 is no JSON object"),
        ("", "is empty"),
    ],
)
def test_a_wrong_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    slvqa(tmp_path).write_text(line)
    with pytest.raises(DataError, match=message):
        items_of("slvqa_memory", tmp_path)


def test_a_part_of_a_benchmark_must_be_allowed(tmp_path: Path) -> None:
    ovo(tmp_path)
    with pytest.raises(DataError, match=r"ACR 0 instead of 109.*--partial"):
        load_items(BENCHMARKS["ovo_bench"], tmp_path)


def test_published_numbers_of_questions() -> None:
    numbers = {name: sum(benchmark.counts.values()) for name, benchmark in BENCHMARKS.items()}
    assert numbers == {
        "rvs_ego": 1465,
        "rvs_movie": 1905,
        "vs_ego": 1465,
        "vs_movie": 1905,
        "streaming_bench_real": 2500,
        "streaming_bench_omni": 1500,
        "streaming_bench_sqa": 250,
        "streaming_bench_proactive": 250,
        "ovo_bench": 3035,
        "navqa": 210,
        "slvqa_perception": 3200,
        "slvqa_memory": 3163,
    }


def test_real_annotations_have_the_published_numbers_of_questions() -> None:
    folders = {name: Path(os.environ.get(REAL_DATA, "")) / name for name in BENCHMARKS}
    given = [name for name, folder in folders.items() if REAL_DATA in os.environ and folder.is_dir()]
    if not given:
        pytest.skip(f"no real data: {REAL_DATA} names no folder with one of {list(BENCHMARKS)}")
    for name in given:
        assert read_items(BENCHMARKS[name], folders[name])


def test_missing_videos_are_named_or_left_out(tmp_path: Path) -> None:
    path = streaming_real(tmp_path)
    entries = json.loads(path.read_text())
    entries[1]["video_path"] = "./videos/sample_2_real.mp4"
    write_json(path, entries)
    items, left_out = load_items(BENCHMARKS["streaming_bench_real"], tmp_path, partial=True)
    assert (len(items), left_out) == (2, 1)
    (tmp_path / "videos" / "sample_1_real.mp4").unlink()
    with pytest.raises(DataError, match=r"2 videos are missing: .*sample_1_real.mp4"):
        load_items(BENCHMARKS["streaming_bench_real"], tmp_path, partial=True)


def spoiled(entries: list[Any], change: dict[str, Any]) -> list[Any]:
    entries[0] = {**entries[0], **change}
    return entries


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gt": 2}, r"entry 0: gt is 2, and there are 2 options"),
        ({"gt": "B"}, r"entry 0 has no gt that is a whole number"),
        ({"options": []}, r"entry 0: options is not a list of texts"),
        ({"task": "XYZ"}, r"task 'XYZ' is none of EPM"),
        ({"id": 1}, r"several questions have the id 1"),
        ({"realtime": "6"}, r"has no realtime that is a number; it has .*question"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = ovo(tmp_path)
    write_json(path, spoiled(json.loads(path.read_text()), change))
    with pytest.raises(DataError, match=message):
        items_of("ovo_bench", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "none of the annotation files"), ("[", "is no JSON"), ("{}", "is no JSON list"), ("[1]", "no JSON object")],
)
def test_wrong_or_missing_annotation_files_are_named(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "ovo_bench_new.json").write_text(content)
    with pytest.raises(DataError, match=message):
        items_of("ovo_bench", tmp_path)


def test_a_wrong_time_is_named(tmp_path: Path) -> None:
    path = streaming_real(tmp_path)
    entries = json.loads(path.read_text())
    entries[0]["questions"][0]["time_stamp"] = "later"
    write_json(path, entries)
    with pytest.raises(DataError, match="time_stamp is 'later', no HH:MM:SS"):
        items_of("streaming_bench_real", tmp_path)
