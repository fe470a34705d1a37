"""Miniatures of benchmarks in their official layouts, with invented content."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from video_files import corner_image, write_video

VIDEO_S = 12
LETTERS = "ABCD"
NAVQA_START = 1673884531.323784  # time of the first frame [s]


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def video(path: Path) -> Path:
    """A video of VIDEO_S seconds with two frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, range(0, 1000 * VIDEO_S, 500), size=(96, 128))


def rvs_conversations(folder: Path, questions: Sequence[tuple[str, str, float]], name: str = "walk") -> Path:
    """RVS-Ego as ReKV stores it: questions as (question, answer, time [s])."""
    asked = [{"question": q, "answer": a, "start_time": 0.0, "end_time": end} for q, a, end in questions]
    content = [{"video_id": name, "video_path": f"data/rvs/ego/videos/{name}.mp4", "conversations": asked}]
    return write_json(folder / "data" / "rvs" / "ego" / "ego4d_oe.json", content)


def vs_flat(folder: Path) -> Path:
    """VS-Movie as released: a flat list, and folders of frames."""
    video(folder / "vstream" / "movienet_videos" / "000001.mp4")
    entries = [
        {"video_id": "000001", "question": "Who waits?", "id": 7, "answer": "A man.", "answer_type": 2, "duration": 12},
        {"video_id": "000001", "question": "Where?", "id": 8, "answer": "Outside.", "answer_type": 1, "duration": 12},
    ]
    return write_json(folder / "vstream" / "test_qa_movienet.json", entries)


def streaming_entry(name: str, task: str, stamp: str, options: Sequence[str], answer: str, question: str = "") -> Any:
    asked = {"task_type": task, "question": question or f"What about {task}?", "time_stamp": stamp, "answer": answer}
    questions = [{**asked, "options": list(options), "required_ability": "working memory"}]
    return {"time": "[0:00:00 - 0:00:10]", "questions": questions, "video_categories": "x", "video_path": name}


def streaming_real(folder: Path) -> Path:
    video(folder / "videos" / "sample_1_real.mp4")
    name = "./videos/sample_1_real.mp4"
    lettered = [f"{letter}. thing {letter}" for letter in LETTERS]
    entries = [
        streaming_entry(name, "Counting", "00:00:10", ["one", "two", "three", "four"], "B"),
        streaming_entry(name, "Action Recognition", "00:00:04", lettered, "C"),
        streaming_entry(name, "Counting", "00:05", ["A. one", "B. two", "C. three", "of them", "D. four"], "D"),
    ]
    return write_json(folder / "src" / "data" / "questions_real.json", entries)


def streaming_sqa(folder: Path) -> Path:
    video(folder / "videos" / "sample_1_sqa.mp4")
    name, options = "./videos/sample_1_sqa.mp4", ["Ann.", "Bob.", "Cem.", "Dora."]
    task = "Sequential Question Answering"
    groups = [
        [
            streaming_entry(name, task, "00:00:04", options, "B", "Who serves?"),
            streaming_entry(name, task, "00:00:08", options, "C", "Who is next?"),
        ]
    ]
    return write_json(folder / "src" / "data" / "questions_sqa.json", groups)


def streaming_proactive(folder: Path) -> Path:
    video(folder / "videos" / "sample_1_proactive.mp4")
    asked = {
        "task_type": "Proactive Output",
        "question": 'When it turns red, output "now".',
        "time_stamp": "00:00:02",
        "ground_truth_time_stamp": "00:00:06",
        "ground_truth_output": "now",
        "required_ability": "working memory",
    }
    entry = {"time": "[0:00:00 - 0:00:10]", "questions": [asked], "video_categories": "x"}
    path = folder / "src" / "data" / "questions_proactive.json"
    return write_json(path, [{**entry, "video_path": "./videos/sample_1_proactive.mp4"}])


def ovo(folder: Path, chunked: bool = False) -> Path:
    """A backward, a real-time and three forward entries, with source videos or with chunks."""
    entries: list[dict[str, Any]] = [
        {"id": 0, "task": "EPM", "realtime": 6, "question": "What was cut?", "options": ["Leek", "Bread"], "gt": 1},
        {"id": 1, "task": "OCR", "realtime": 5.5, "question": "Which word?", "options": ["IN", "OUT", "UP"], "gt": 0},
        {"id": 2, "task": "CRR", "question": "What is opened?", "answer": "A box.", "ask_time": 4, "clue_time": 8},
        {"id": 3, "task": "SSR", "tutorial": "Tea", "all_steps": ["boil"], "start_time": [3], "end_time": [7]},
        {"id": 4, "task": "REC", "activity": "jump", "start_times": [2], "end_times": [4]},
    ]
    entries[2]["test_info"] = [{"realtime": 4, "type": 0}, {"realtime": 9.5, "type": 1}]
    entries[3]["test_info"] = [{"realtime": 5, "step": "boil", "type": 1}]
    entries[4]["test_info"] = [{"realtime": 6, "count": 1}]
    for entry in entries:
        entry["video"] = "COIN/abc.mp4"
    if chunked:
        for name in ("0", "1", "2_0", "2_1", "3_0", "4_0"):
            video(folder / "chunked_videos" / f"{name}.mp4")
    else:
        video(folder / "src_videos" / "COIN" / "abc.mp4")
    return write_json(folder / "data" / "ovo_bench_new.json", entries)


def slvqa(folder: Path, part: str = "memory", **changes: Any) -> Path:
    """Two questions about one stream, with the fields that the specification names. `changes` are of the first."""
    video(folder / "src_videos" / "mega_streams" / "mega_000.mp4")
    task = "EPM" if part == "memory" else "OCR"
    entries: list[dict[str, Any]] = [
        {"id": 7, "question": "What was cut?", "options": ["A. Leek", "B. Bread"], "answer": "B"},
        {"id": 8, "question": "Which word?", "options": ["IN", "OUT", "UP"], "answer": "UP"},
    ]
    for number, entry in enumerate(entries):
        entry |= {"task": task, "video": "src_videos/mega_streams/mega_000.mp4", "stream_id": "mega_000"}
        entry |= {"question_time_sec": 6.0 + number}
    entries[0] |= changes
    path = folder / part / "data" / "annotations.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    return path


def coda_frame(folder: Path, time_s: float, position: tuple[float, float, float], corner: int) -> Path:
    """A frame as ReMEmbR's preprocessing writes it, an image with a white corner."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{time_s}.pkl"
    fields = {
        "cam0": corner_image(corner, 96, 128)[..., ::-1],
        "bbox_3d": {},
        "position": np.array(position),
        "rotation": np.array([0.0, 0.0, 0.0, 1.0]),
        "timestamp": np.float64(time_s),
    }
    path.write_bytes(pickle.dumps(fields, protocol=pickle.HIGHEST_PROTOCOL))
    return path


def navqa_entry(kind: str, question: str, answers: dict[str, Any], start_s: float, end_s: float) -> dict[str, Any]:
    lead = (
        "You started moving at 2023-01-16 15:55:31. The current time is 2023-01-16 15:56:00 and you are located at [0]."
    )
    return {
        "id": f"SHORT_{kind}",
        "length_category": "SHORT",
        "length": end_s - start_s,
        "start_time": NAVQA_START + start_s,
        "end_time": NAVQA_START + end_s,
        "file_info": {"qa_start_filename": "a.pkl", "qa_end_filename": "b.pkl"},
        "question": f"{lead} \n {question}",
        "type": kind,
        "context": "At time=..",
        "answers": answers,
    }


def navqa(folder: Path) -> Path:
    """Sequence 0 of NaVQA: twelve seconds at two frames a second, along the x axis."""
    for number in range(2 * VIDEO_S):
        coda_frame(folder / "coda_data" / "0", NAVQA_START + number / 2, (float(number), 0.0, 0.0), number % 12)
    entries = [
        navqa_entry("binary", "Was there a hydrant?", {"text": ["Yes", "Yes"]}, 0, 6),
        navqa_entry("position", "Where is the bin?", {"position": [3.0, 4.0, 0.0]}, 4, 8),
        navqa_entry("time", "When did you turn?", {"text": ["0.05 minutes ago"], "time": 0.05}, 0, 8),
        navqa_entry("duration", "How long did you wait?", {"text": ["2.5 minutes"], "duration": 2.5}, 2, 11.5),
        navqa_entry("text", "Which side?", {"text": ["the left one"]}, 0, 11.5),
    ]
    return write_json(folder / "data" / "questions" / "0" / "human_qa.json", {"version": 0.1, "data": entries})
