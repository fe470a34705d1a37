"""VStream-QA: open questions about egocentric videos and films, offline (VS) and at a time of a stream (RVS).

Two layouts are read: the release's flat lists, and ReKV's lists of conversations, which have the time of each question.
Sampling rate and length of answers of RVS are those of ReKV's online protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from flash_vstream_ros.evaluation.annotations import ALL_TASKS, Entry, find_video, first_file, read_entries
from flash_vstream_ros.evaluation.item import WHOLE_VIDEO, AnswerKind, DataError, Item

from .benchmark import Benchmark

INSTRUCTION = "Answer the following question about the video in a few words."


def _read(folder: Path, source: str, rekv: str, is_stream: bool) -> list[Item]:
    """Read the annotations of `source`, ego4d or movienet. `rekv` is the path of ReKV's copy of them."""
    part = "vstream-realtime" if is_stream else "vstream"
    release = f"{part}/test_qa_{source}.json"
    names = (release, f"test_qa_{source}.json")
    path = first_file(folder, (rekv, Path(rekv).name, *names) if is_stream else names)
    folders = [folder, path.parent, path.parent / f"{source}_frames", path.parent / f"{source}_videos"]
    entries = read_entries(path)
    if "conversations" in entries[0]:
        return [item for entry in entries for item in _conversations(entry, folders)]
    return [_flat(entry, folders, is_stream) for entry in entries]


def _flat(entry: Entry, folders: list[Path], is_stream: bool) -> Item:
    if is_stream and "end_time" not in entry:
        raise DataError(
            f"{entry.where} has no end_time, the time of the question: use ReKV's copy of the annotations, which has it"
        )
    video = entry.text("video_id")
    time_s = entry.number("end_time") if is_stream else WHOLE_VIDEO
    task = entry.label("answer_type") if "answer_type" in entry else ALL_TASKS
    return _item(entry, entry.label("id"), find_video(folders, (video,)), time_s, task)


def _conversations(entry: Entry, folders: list[Path]) -> Iterator[Item]:
    path = Path(entry.text("video_path"))
    video = find_video(folders, (str(path), path.name, entry.text("video_id")))
    for number, asked in enumerate(entry.entries("conversations")):
        yield _item(asked, f"{entry.text('video_id')}/{number}", video, asked.number("end_time"), ALL_TASKS)


def _item(entry: Entry, name: str, video: Path, time_s: float, task: str) -> Item:
    question = entry.text("question")
    return Item(name, video, time_s, question, entry.text("answer"), AnswerKind.OPEN, task, question=question)


def _benchmark(name: str, title: str, source: str, rekv: str, count: int) -> Benchmark:
    is_stream = bool(rekv)
    return Benchmark(
        name,
        title,
        fps=0.5 if is_stream else 1.0,
        max_new_tokens=256 if is_stream else 128,
        instruction=INSTRUCTION,
        counts={ALL_TASKS: count},
        read=partial(_read, source=source, rekv=rekv, is_stream=is_stream),
    )


VSTREAM_QA = (
    _benchmark("rvs_ego", "RVS-Ego", "ego4d", "data/rvs/ego/ego4d_oe.json", 1465),
    _benchmark("rvs_movie", "RVS-Movie", "movienet", "data/rvs/movie/movienet_oe.json", 1905),
    _benchmark("vs_ego", "VS-Ego", "ego4d", "", 1465),
    _benchmark("vs_movie", "VS-Movie", "movienet", "", 1905),
)
