"""The streaming protocol: asks the questions about a video in the order of their times, each from the frames so far."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flash_vstream_ros.models.interface import ModelError

from .item import AnswerKind, Item
from .methods import Method, Reply
from .parsing import yes_no
from .records import END, Record
from .sampled_video import SampledVideo


@dataclass(frozen=True)
class Stream:
    """A video from some time on, and the questions about it."""

    video: Path
    items: tuple[Item, ...]
    start_s: float = 0.0


def streams_of(items: Sequence[Item]) -> list[Stream]:
    """Group the items by video and start, in the order of the annotations."""
    streams: dict[tuple[Path, float], list[Item]] = {}
    for item in items:
        streams.setdefault((item.video, item.start_s), []).append(item)
    return [Stream(video, tuple(own), start_s) for (video, start_s), own in streams.items()]


def answers(method: Method, name: str, stream: Stream, video: SampledVideo, max_new_tokens: int) -> Iterator[Record]:
    """Ask the questions of a stream. Questions of equal times are asked in the order of the annotations.

    A question that fails becomes a record with the error; the others are asked.
    """
    times = sorted((time_s, number) for number, item in enumerate(stream.items) for time_s in item.ask_times)
    done: set[int] = set()
    for time_s, number in times:
        if number in done:
            continue
        item = stream.items[number]
        frames = video.count_until(time_s)
        is_last = time_s == item.ask_times[-1]
        if item.kind is AnswerKind.POSITION:
            reply = _located(method, item.prompt, frames)
        else:
            reply = _reply(method, item.polls.prompt if item.polls else item.prompt, frames, max_new_tokens)
        if item.polls is not None:
            if yes_no(reply.text) == "yes":
                reply, is_last = _reply(method, item.prompt, frames, max_new_tokens), True
            elif not reply.error:
                reply = reply._replace(text="")  # it was never the right time
        if is_last:
            done.add(number)
            yield _record(name, item, reply, time_s, frames)


def _reply(method: Method, prompt: str, frames: int, max_new_tokens: int) -> Reply:
    try:
        return method.ask(frames, prompt, max_new_tokens)
    except (ModelError, ValueError) as error:
        return Reply("", str(error) or type(error).__name__)


def _located(method: Method, text: str, frames: int) -> Reply:
    try:
        return method.locate(frames, text)
    except (ModelError, ValueError) as error:
        return Reply("", str(error) or type(error).__name__)


def _record(name: str, item: Item, reply: Reply, time_s: float, frames: int) -> Record:
    return Record(
        method=name,
        id=item.id,
        response=reply.text,
        error=reply.error,
        asked_s=time_s if math.isfinite(time_s) else END,
        frames=frames,
        memory_tokens=reply.memory_tokens,
        memory_bytes=reply.memory_bytes,
        cached_tokens=reply.cached_tokens,
        first_token_s=reply.first_token_s,
        duration_s=reply.duration_s,
    )
