"""The data of a fine-tuning: bad lines are named, whole videos are held out, memories are those of the node."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import model
from video_files import corner_image, write_video

from flash_vstream_ros.cli.finetune import _frames
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.offline import OfflineEngine
from flash_vstream_ros.evaluation.item import DataError
from flash_vstream_ros.finetuning.examples import Example, Moment, moments, read_examples, split
from flash_vstream_ros.finetuning.memories import BadMoment, MemoryFolder, snapshots
from flash_vstream_ros.finetuning.plan import Plan
from flash_vstream_ros.finetuning.snapshot_file import read_snapshot, write_snapshot
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import MemorySnapshot

__all__ = ["model"]  # a fixture

GOOD = {"video": "walk", "question": "Where is the ball?", "answer": "in the hall"}
CONFIG = EngineConfig(memory=FlashMemoryConfig(csm_slots=3, dam_slots=2))
SECONDS = 16  # of a recording


def lines(folder: Path, *objects: Any) -> Path:
    (folder / "walk").mkdir(exist_ok=True)
    path = folder / "data.jsonl"
    path.write_text("".join(one if isinstance(one, str) else json.dumps(one) + "\n" for one in objects))
    return path


def recorded(until_s: int = SECONDS) -> list[tuple[int, Any]]:
    """Frames of one a second, from a stamp on that is not zero."""
    return [(1_000_000_000 * (100 + second), corner_image(second % 12, 64, 80)) for second in range(until_s)]


def memories(
    model: Any, *wanted: Moment, config: EngineConfig = CONFIG, until_s: int = SECONDS
) -> list[MemorySnapshot]:
    found = snapshots(model, config, "walk", wanted, lambda _: recorded(until_s), pytest.fail)
    return [snapshot for _, snapshot in found]


def assert_equal(one: MemorySnapshot, other: MemorySnapshot) -> None:
    assert type(one) is type(other)
    for field in fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if field.name == "entries":
            left, right = ([replace(entry, thumbnail=b"") for entry in entries] for entries in (left, right))
        assert torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right, field.name


def test_a_line_has_a_video_a_question_and_an_answer(tmp_path: Path) -> None:
    path = lines(tmp_path, GOOD, "\n", {**GOOD, "time": 5, "since": 1.5, "until": 4, "kind": "where"})
    first, second = read_examples(path)
    source = str(tmp_path / "walk")
    assert (first.question, first.answer, first.kind) == (GOOD["question"], GOOD["answer"], "")
    assert first.moment == Moment(source)
    assert second.moment == Moment(source, 5.0, 1.5, 4.0)
    assert second.kind == "where"
    assert second.where == f"{path}, line 3"


def test_questions_to_keep_need_no_answers(tmp_path: Path) -> None:
    path = lines(tmp_path, GOOD, {"video": "walk", "question": "Who?"})
    assert [one.answer for one in read_examples(path, needs_answers=False)] == ["", ""]
    with pytest.raises(DataError, match="line 2 has no answer"):
        read_examples(path)


def test_the_demo_is_a_video(tmp_path: Path) -> None:
    assert [one.moment.source for one in read_examples(lines(tmp_path, {**GOOD, "video": "demo:7"}))] == ["demo:7"]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{\n", ("no JSON", "one object a line")),
        ("[1]\n", ("no JSON object",)),
        ({"video": "walk", "question": "Where?"}, ("no answer that is a text", "video, question")),
        ({**GOOD, "answer": 3}, ("no answer that is a text",)),
        ({**GOOD, "answer": " "}, ("answer is empty", "expected a text")),
        ({**GOOD, "answer": "\ud800"}, ("answer has a half of a surrogate pair",)),
        ({**GOOD, "tiem": 3}, ("unknown field tiem", "expected video, question, answer, time")),
        ({**GOOD, "time": "3"}, ("no time that is a number",)),
        ({**GOOD, "time": -1}, ("time is -1", "0 or more")),
        ({**GOOD, "since": 3, "until": 2}, ("since is 3", "since <= until")),
        ({**GOOD, "time": 3, "until": 5}, ("until is 5", "after the question at 3 s")),
        ({**GOOD, "video": "run.mp4"}, ("no video", "run.mp4", "relative to the folder")),
        ({**GOOD, "video": "x" * 5000}, ("video", "cannot be opened", "too long")),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: Any, words: tuple[str, ...]) -> None:
    path = lines(tmp_path, GOOD, bad, GOOD)
    with pytest.raises(DataError) as error:
        read_examples(path)
    sentence = str(error.value)
    assert f"{path}, line 2" in sentence
    assert "line 3" not in sentence
    assert all(word in sentence for word in words), sentence


def test_all_bad_lines_are_named_up_to_a_limit(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_examples(lines(tmp_path, *[{**GOOD, "answer": ""}] * 14))
    assert str(error.value).count("answer is empty") == 10
    assert str(error.value).endswith("and 4 more")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_lines_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match="has no lines"):
        read_examples(lines(tmp_path, content))


def examples(videos: int, each: int) -> list[Example]:
    return [
        Example(f"line {video}-{number}", Moment(f"video {video}"), "?", "!")
        for video in range(videos)
        for number in range(each)
    ]


def test_whole_videos_are_held_out() -> None:
    asked = examples(20, 3)
    training, held_out = split(asked, 0.1, seed=0)
    assert len(held_out) == 6
    assert sorted(training + held_out, key=asked.index) == asked
    assert not {one.moment.source for one in training} & {one.moment.source for one in held_out}
    assert split(asked, 0.1, seed=0) == (training, held_out)
    assert split(asked, 0.1, seed=1) != (training, held_out)


def test_single_questions_are_held_out_of_few_videos() -> None:
    training, held_out = split(examples(2, 10), 0.1, seed=0)
    assert len(held_out) == 2
    assert {one.moment.source for one in training} == {"video 0", "video 1"}


def test_nothing_is_held_out_without_a_share() -> None:
    assert split(examples(2, 2), 0.0, seed=0)[1] == []


def test_a_share_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="none and all"):
        split(examples(1, 1), 0.5, seed=0)


def test_the_moments_of_a_video_are_in_order_and_different() -> None:
    asked = [Example("", Moment("walk", time_s), "?", "!") for time_s in (9.0, 3.0, 9.0)]
    assert list(moments(asked)) == [("walk", [Moment("walk", 3.0), Moment("walk", 9.0)])]


def test_a_memory_is_that_of_an_engine_that_saw_the_frames_up_to_the_question(model: Any) -> None:
    engine = OfflineEngine(model, CONFIG, pytest.fail)
    expected = []
    for stamp_ns, rgb in recorded():
        engine.add(Frame("camera", "", stamp_ns, lambda rgb=rgb: rgb))  # type: ignore[misc]
        if stamp_ns in (107_000_000_000, 115_000_000_000):
            engine.finish()
            expected.append(engine.snapshot())
    engine.close()
    early, late = memories(model, Moment("walk", 7.2), Moment("walk"))
    assert_equal(early, expected[0])
    assert_equal(late, expected[1])
    assert (len(late.csm), len(late.dam)) == (3, 2), "the memory compresses"


def test_later_frames_do_not_change_a_memory(model: Any) -> None:
    assert_equal(memories(model, Moment("walk", 7.0))[0], memories(model, Moment("walk"), until_s=8)[0])


def test_since_and_until_limit_a_memory(model: Any) -> None:
    (part,) = memories(model, Moment("walk", 11.0, 4.0, 7.0), config=replace(CONFIG, memory=FlashMemoryConfig()))
    assert [part.first_ns, part.last_ns] == [104_000_000_000, 107_000_000_000]
    assert part.newest_ns == 111_000_000_000


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (Moment("walk", 0.5), "no frames up to 0.5 s; expected at least two"),
        (Moment("walk", 60.0), "time is 60, 45.0 s after the last frame"),
    ],
)
def test_a_moment_without_frames_is_refused(model: Any, moment: Moment, words: str) -> None:
    with pytest.raises(BadMoment, match=words):
        memories(model, moment)


def test_a_memory_file_is_a_recording(model: Any, tmp_path: Path) -> None:
    engine, path = OfflineEngine(model, CONFIG, pytest.fail), tmp_path / "walk.memory"
    for stamp_ns, rgb in recorded():
        engine.add(Frame("camera", "", stamp_ns, lambda rgb=rgb: rgb))  # type: ignore[misc]
    engine.finish()
    engine.save(path, {})
    expected = engine.snapshot(Scope(since_ns=104_000_000_000))
    engine.close()
    wanted = [Moment(str(path), since_s=4.0)]
    ((_, part),) = snapshots(model, CONFIG, str(path), wanted, pytest.fail, pytest.fail)
    assert_equal(part, expected)
    with pytest.raises(BadMoment, match="time is 3, but a memory file is as at its end"):
        list(snapshots(model, CONFIG, str(path), [Moment(str(path), 3.0)], pytest.fail, pytest.fail))


@pytest.mark.parametrize("policy", ["flash", "recent", "fluxmem"])
def test_a_snapshot_is_read_as_it_was_written(model: Any, tmp_path: Path, policy: str) -> None:
    (written,) = memories(model, Moment("walk", 11.0), config=replace(CONFIG, policy=policy))
    write_snapshot(tmp_path / "one", written)
    assert_equal(read_snapshot(tmp_path / "one"), written)
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


def test_a_memory_is_built_again_if_the_video_or_a_parameter_changed(tmp_path: Path) -> None:
    video = write_video(tmp_path / "walk.mp4", range(0, 4000, 500))
    moment, folder = Moment(str(video), 2.0), MemoryFolder(tmp_path / "memories", {"fps": 1})
    before = folder.path(moment)
    assert before == MemoryFolder(tmp_path / "memories", {"fps": 1}).path(moment)
    assert before != folder.path(Moment(str(video), 3.0))
    assert before != MemoryFolder(tmp_path / "memories", {"fps": 2}).path(moment)
    write_video(video, range(0, 5000, 500))
    assert before != folder.path(moment)


def test_videos_keep_their_times_and_folders_get_the_given_rate(tmp_path: Path) -> None:
    video = write_video(tmp_path / "walk.mp4", range(0, 2000, 500))
    assert [stamp for stamp, _ in _frames(str(video), 2.0)] == [0, 500_000_000, 1_000_000_000, 1_500_000_000]
    import cv2

    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), corner_image(number))
    video.unlink()
    assert [stamp for stamp, _ in _frames(str(tmp_path), 2.0)] == [0, 500_000_000, 1_000_000_000]


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    plan = Plan(batch=12, device_batch=2)
    assert plan.accumulation(3) == 2
    with pytest.raises(ValueError, match="--batch is 12, no multiple of 10, which 5 processes"):
        plan.accumulation(5)
