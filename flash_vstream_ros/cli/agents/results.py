"""Converts replies of the node to tool results: JSON with times that the tools accept again, and thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mcp.types import CallToolResult, ImageContent, TextContent

from flash_vstream_ros.client import MapName, place_in
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.ros.stamps import seconds

from ..places import pose_text
from ..reply_output import MODEL_NOTES
from ..times import is_date
from .bounds import MAX_THUMBNAILS, bounded_json, bounded_text, small_jpeg

MAX_LIST, MAX_ITEM_CHARS = 32, 200  # names or sentences in one field


class NodeError(RuntimeError):
    """The node refused a request or failed; the message is the node's own sentence."""


def refusal(sentence: str) -> CallToolResult:
    """A tool error."""
    return CallToolResult(content=[TextContent(text=bounded_text(sentence))], is_error=True)


def check(reply: Any) -> None:
    """Raise NodeError if a reply has an error."""
    if reply.error_code:
        raise NodeError(f"error {reply.error_code}: {reply.error_msg}")


def answer_result(reply: Any, thumbnails: int) -> CallToolResult:
    """The result of a question: the answer and its evidence."""
    images = Thumbnails(thumbnails)
    fields = {
        "answer": bounded_text(reply.answer),
        "confidence": round(float(reply.confidence), 3),
        "calibrated": bool(reply.calibrated),
        **_notes(reply),
        "seen": [stamp_text(reply.covered_since), stamp_text(reply.covered_until)],
        "evidence": [entry_fields(entry, images) for entry in reply.evidence],
    }
    return _result(fields, "evidence", images)


def moments_result(reply: Any, thumbnails: int) -> CallToolResult:
    """The result of a search: moments, best first."""
    images = Thumbnails(thumbnails)
    fields = {
        **_notes(reply),
        "searched": [stamp_text(reply.covered_since), stamp_text(reply.covered_until)],
        "moments": [entry_fields(moment, images) for moment in reply.moments],
    }
    return _result(fields, "moments", images)


def place_result(reply: Any, present: MapName, thumbnails: int) -> CallToolResult:
    """The best moment of a search that has a pose in the map `present`, or the reason why there is none."""
    images = Thumbnails(thumbnails)
    moment, is_best, why_unknown = place_in(present, reply.moments)
    fields: dict[str, Any] = {**_notes(reply), "pose_known": not why_unknown, "is_best_moment": is_best}
    if why_unknown:
        fields["pose_unknown"], fields["why"] = bounded_text(moment.pose_unknown), bounded_text(why_unknown)
    else:
        pose = moment.pose.pose.pose
        fields["frame_id"], fields["map_id"] = bounded_text(moment.pose.header.frame_id), bounded_text(moment.map_id)
        fields["position_m"] = [round(float(getattr(pose.position, axis)), 3) for axis in "xyz"]
        fields["orientation"] = [round(float(getattr(pose.orientation, axis)), 5) for axis in "xyzw"]
    return _result({**fields, "moment": entry_fields(moment, images)}, "", images)


def entries_result(reply: Any, thumbnails: int) -> CallToolResult:
    """The entries of the memory."""
    images = Thumbnails(thumbnails)
    return _result({"entries": [entry_fields(entry, images) for entry in reply.entries]}, "entries", images)


def report_result(reply: Any, thumbnails: int) -> CallToolResult:
    """The sections of a report."""
    images = Thumbnails(thumbnails)
    sections = [
        {
            "since": stamp_text(section.since),
            "until": stamp_text(section.until),
            "text": bounded_text(section.text),
            "cameras": _texts(section.cameras),
            **({"frames": int(section.frames)} if section.frames else {}),
            **images.numbers(section.pictures),
        }
        for section in reply.sections
    ]
    return _result({"missing": _texts(reply.missing), "sections": sections}, "sections", images)


def status_result(status: Any) -> CallToolResult:
    """State, cameras, frames and memory of a node."""
    reasons = zip(_texts(status.drop_reasons), status.drop_counts, strict=False)
    fields = {
        "state": State(status.state).name,
        "paused": bool(status.paused),
        "model": bounded_text(status.model),
        "cameras": _texts(status.cameras),
        "newest_frame": stamp_text(status.newest_frame),
        "remembered": [stamp_text(status.covered_since), stamp_text(status.covered_until)],
        "memory_entries": int(status.memory_entries),
        "frames_received": int(status.frames_received),
        "frames_dropped": {reason: int(count) for reason, count in reasons},
        "questions_answered": int(status.questions_answered),
        "questions_failed": int(status.questions_failed),
        "median_answer_s": round(seconds(status.answer_p50), 3),
        "last_error": bounded_text(status.last_error),
    }
    return _result(fields, "", Thumbnails(0))


def watches_result(reply: Any) -> CallToolResult:
    """The watches, and what their newest checks found."""
    rows = [
        {
            "watch_id": bounded_text(status.watch.watch_id),
            "text": bounded_text(status.watch.text)[:MAX_ITEM_CHARS],
            "cameras": _texts(status.watch.cameras),
            "active": bool(status.active),
            **({"probability": round(float(status.probability), 3)} if status.checks else {}),
            **({"at": stamp_text(status.stamp)} if status.checks else {}),
            **({"problem": bounded_text(status.problem)[:MAX_ITEM_CHARS]} if status.problem else {}),
        }
        for status in reply.watches
    ]
    return _result({"watches": rows}, "watches", Thumbnails(0))


def watch_result(watch_id: str) -> CallToolResult:
    """The id of a watch that was added or removed."""
    return _result({"watch_id": bounded_text(watch_id)}, "", Thumbnails(0))


def forgotten_result(reply: Any) -> CallToolResult:
    """What was forgotten."""
    counts = ("slots", "clusters_removed", "clusters_rebuilt", "key_frames")
    return _result({name: int(getattr(reply, name)) for name in counts}, "", Thumbnails(0))


class Thumbnails:
    """Collects the images of a result, and numbers them from 1 in the order in which they are sent."""

    def __init__(self, most: int) -> None:
        self.jpegs: list[bytes] = []
        self._most = min(most, MAX_THUMBNAILS)

    def numbers(self, messages: Sequence[Any]) -> dict[str, list[int]]:
        """The field `images` of a result, with the numbers of the images that are sent; {} if none is sent."""
        numbers = []
        for message in messages:
            jpeg = small_jpeg(message) if len(self.jpegs) < self._most and len(message.data) else None
            if jpeg:
                self.jpegs.append(jpeg)
                numbers.append(len(self.jpegs))
        return {"images": numbers} if numbers else {}


def entry_fields(entry: Any, images: Thumbnails) -> dict[str, Any]:
    """The fields of an entry of the memory, which may be evidence of an answer or a moment of a search."""
    return {
        "camera": bounded_text(entry.camera),
        "at": stamp_text(entry.thumbnail.header.stamp),
        "since": stamp_text(entry.since),
        "until": stamp_text(entry.until),
        "kind": "key frame" if entry.kind == entry.KEY_FRAME else "synopsis",
        **({"relevance": round(float(entry.relevance), 4)} if entry.relevance else {}),
        **({"pose": bounded_text(pose_text(entry))} if entry.pose_known else {}),
        **images.numbers([entry.thumbnail]),
    }


def stamp_text(stamp: Any) -> str:
    """A stamp in a form that the tools' arguments accept: a date with milliseconds, or seconds for simulated time."""
    stamp_s = seconds(stamp)
    if is_date(stamp_s):
        return datetime.fromtimestamp(stamp_s).astimezone().isoformat(timespec="milliseconds")
    return f"{stamp_s:.3f}"


def _notes(reply: Any) -> dict[str, Any]:
    note = MODEL_NOTES.get(int(reply.model_kind))
    adjustments = _texts(reply.adjustments)
    return {**({"model": note} if note else {}), **({"adjustments": adjustments} if adjustments else {})}


def _texts(texts: Sequence[str]) -> list[str]:
    return [bounded_text(text)[:MAX_ITEM_CHARS] for text in texts[:MAX_LIST]]


def _result(fields: dict[str, Any], rows: str, images: Thumbnails) -> CallToolResult:
    """A result of JSON, followed by the images in the order of their numbers. Raises NodeError if it is too long."""
    try:
        text = bounded_json(fields, rows)
    except ValueError as error:
        raise NodeError(str(error)) from error
    pictures = [ImageContent(data=base64.b64encode(jpeg).decode(), mime_type="image/jpeg") for jpeg in images.jpegs]
    return CallToolResult(content=[TextContent(text=text), *pictures])
