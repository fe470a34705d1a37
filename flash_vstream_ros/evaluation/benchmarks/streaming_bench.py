"""StreamingBench: questions with options at a time of a stream, in four parts with separate numbers.

In part omni, answers need the sound, which no method here gets. In part sqa, the earlier questions of a video and their
true answers precede a question. In part proactive, the model is asked every second whether it is time to speak.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from flash_vstream_ros.evaluation.annotations import Entry, find_video, first_file, read_list
from flash_vstream_ros.evaluation.item import AnswerKind, DataError, Item, Polls
from flash_vstream_ros.evaluation.records import Record

from .benchmark import Benchmark

CHOOSE = "Choose the best option for the question about the video. Answer with its letter only."
EARLIER = "Earlier questions about this video and their answers:"
POLL_END_S = 4.0  # polls end this long after the right time
LETTERS = string.ascii_uppercase
OPTIONS = 4
_LETTERED = re.compile(r"(?P<letter>[A-H])\.\s*(?P<text>.*)", re.DOTALL)


def _read(folder: Path, part: str) -> list[Item]:
    name = f"questions_{part}.json"
    path = first_file(folder, (f"src/data/{name}", f"data/{name}", name))
    videos = [folder, path.parent, path.parent.parent, folder / "videos"]
    found: list[Item] = []
    for group in _groups(path):
        history: list[str] = []
        for entry in group:
            video = Path(entry.text("video_path"))
            file = find_video(videos, (str(video), video.name))
            for asked in entry.entries("questions"):
                identity = f"{part}/{len(found)}"
                if part == "proactive":
                    found.append(_proactive(asked, identity, file))
                    continue
                found.append(_choice(asked, identity, file, history))
                if part == "sqa":
                    history.append(_with_answer(found[-1]))
    return found


def _groups(path: Path) -> Iterator[list[Entry]]:
    """The entries of each video of part sqa, which are nested lists; else of the whole file."""
    for number, value in enumerate(read_list(path)):
        values: Iterable[object] = value if isinstance(value, list) else [value]
        yield [Entry(fields, f"{path.name}, entry {number}") for fields in values]


def _choice(asked: Entry, identity: str, video: Path, history: Sequence[str]) -> Item:
    options = options_of(asked.texts("options"))
    answer, question = asked.text("answer").strip(), asked.text("question")
    if answer not in LETTERS[: len(options)]:
        raise DataError(f"{asked.where}: the answer {answer!r} is no letter of {len(options)} options")
    lettered = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    earlier = [EARLIER, *history] if history else []
    prompt = "\n".join([CHOOSE, *earlier, f"Question: {question}", *lettered, "The best option is:"])
    task, time_s = asked.text("task_type"), asked.time_s("time_stamp")
    return Item(
        identity, video, time_s, prompt, answer, AnswerKind.CHOICE, task, question=question, options=tuple(options)
    )


def _proactive(asked: Entry, identity: str, video: Path) -> Item:
    question, output = asked.text("question"), asked.text("ground_truth_output")
    start_s, due_s = asked.time_s("time_stamp"), asked.time_s("ground_truth_time_stamp")
    times = tuple(map(float, range(int(start_s) + 1, int(due_s + POLL_END_S) + 1)))
    if not times:
        raise DataError(f"{asked.where}: ground_truth_time_stamp is before time_stamp")
    poll = f'{question} Is now the time to say "{output}"? Answer with yes or no only.'
    return Item(
        identity,
        video,
        times[-1],
        question,
        output,
        AnswerKind.PROACTIVE,
        asked.text("task_type"),
        question=question,
        polls=Polls(times, poll, due_s),
    )


def options_of(texts: Sequence[str]) -> list[str]:
    """Options in the order of their letters, without the letters. Repairs what is wrong in the official files.

    Up to four texts are as many options: in the order of their letters if these differ, else in the given order. Of
    more texts, one without the next letter continues the option before it.
    """
    split = [_LETTERED.match(text.strip()) for text in texts]
    if len(texts) <= OPTIONS:
        found = {match["letter"]: match["text"] for match in split if match}
        if len(found) == len(texts):
            return [found[letter] for letter in sorted(found)]
        return [match["text"] if match else text.strip() for text, match in zip(texts, split, strict=True)]
    options: list[str] = []
    for text, match in zip(texts, split, strict=True):
        if match and match["letter"] == LETTERS[len(options)]:
            options.append(match["text"])
        elif options:
            options[-1] = f"{options[-1]} {text.strip()}".strip()
    return options


def _with_answer(item: Item) -> str:
    """An earlier question and its true answer, for the prompts of later ones."""
    true = item.options[LETTERS.index(item.answer)]
    return f"At {item.time_s:g} s: {item.question} Answer: {item.answer}. {true}"


def published_rule(item: Item, record: Record) -> float | None:
    """Score by the official scorer: 1 if the response begins with the letter, or has the proactive text in time."""
    if item.polls is not None:
        return float(item.polls.is_punctual(record.asked_s) and item.answer in record.response)
    return float(record.response[0] == item.answer) if record.response else None


REAL = {
    "Object Recognition": 367,
    "Action Recognition": 353,
    "Text-Rich Understanding": 321,
    "Clips Summarize": 317,
    "Attribute Recognition": 306,
    "Spatial Understanding": 246,
    "Counting": 193,
    "Event Understanding": 161,
    "Causal Reasoning": 128,
    "Prospective Reasoning": 108,
}
OMNI = (
    "Misleading Context Understanding",
    "Source Discrimination",
    "Emotion Recognition",
    "Anomaly Context Understanding",
    "Scene Understanding",
    "Multimodal Alignment",
)
COUNTS = {
    "real": REAL,
    "omni": dict.fromkeys(OMNI, 250),
    "sqa": {"Sequential Question Answering": 250},
    "proactive": {"Proactive Output": 250},
}

STREAMING_BENCH = tuple(
    Benchmark(
        f"streaming_bench_{part}",
        f"StreamingBench, part {part}",
        fps=1.0,
        max_new_tokens=32,
        instruction="",
        counts=counts,
        read=partial(_read, part=part),
        published_rule=published_rule,
    )
    for part, counts in COUNTS.items()
)
