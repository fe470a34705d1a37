"""Converts messages of the node to the fields of events and replies. Texts are bounded, times are in seconds."""

from __future__ import annotations

import base64
import math
from collections import deque
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from flash_vstream_ros.engine.state import State
from flash_vstream_ros.ros.stamps import seconds

from ..agents.bounds import bounded_text, small_jpeg
from ..places import pose_text
from ..reply_output import MODEL_NOTES

MAX_CAMERAS, MAX_ENTRIES, MAX_NOTES, MAX_WATCHES = 64, 1024, 32, 64  # in one event or reply
RATE_S = 10.0  # interval over which frame rates are measured
COUNTERS = ("received", "encoded", "static", "not_sampled", "dropped")
DURATIONS = ("encode", "update", "first_token", "answer")
HISTORY = 180  # statuses


def status_fields(status: Any) -> dict[str, Any]:
    """A MemoryStatus. Latencies are pairs in seconds: median and 95th percentile."""
    reasons = zip(status.drop_reasons, status.drop_counts, strict=False)
    return {
        "state": State(status.state).name if status.state in list(State) else str(status.state),
        "paused": bool(status.paused),
        "model": bounded_text(status.model),
        "cameras": texts(status.cameras, MAX_CAMERAS),
        "time": seconds(status.header.stamp),
        "newest_frame": seconds(status.newest_frame),
        "covered": [seconds(status.covered_since), seconds(status.covered_until)],
        "frames": {name: int(getattr(status, f"frames_{name}")) for name in (*COUNTERS, "pending")},
        "drops": [[bounded_text(reason), int(count)] for reason, count in reasons][:MAX_NOTES],
        "slots": int(status.slots),
        "entries": int(status.memory_entries),
        "capacity": int(status.memory_capacity),
        "tokens": int(status.memory_tokens),
        "bytes": int(status.memory_bytes),
        "device_bytes": int(status.device_bytes),
        "cached_tokens": int(status.cached_tokens),
        "latency": {
            name: [seconds(getattr(status, f"{name}_p50")), seconds(getattr(status, f"{name}_p95"))]
            for name in DURATIONS
        },
        "questions": {name: int(getattr(status, f"questions_{name}")) for name in ("answered", "cached", "failed")},
        "last_error": bounded_text(status.last_error),
    }


class History:
    """Rates and latencies of the last statuses."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, dict[str, int]]] = deque()
        self.points: deque[dict[str, Any]] = deque(maxlen=HISTORY)

    def add(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Add a status, and return its point: rates [1/s] over RATE_S of the node's clock, and median latencies [s]."""
        now, frames = fields["time"], fields["frames"]
        if self._counts and (now <= self._counts[-1][0] or frames["received"] < self._counts[-1][1]["received"]):
            self._counts.clear()  # another node, or a clock that jumped back
        while len(self._counts) > 1 and self._counts[1][0] <= now - RATE_S:
            self._counts.popleft()
        self._counts.append((now, frames))
        began, before = self._counts[0]
        rates = {name: max(frames[name] - before[name], 0) / (now - began) for name in COUNTERS} if now > began else {}
        latency = {name: pair[0] for name, pair in fields["latency"].items()}
        point = {"rates": rates, "latency": latency}
        self.points.append(point)
        return point


class Images:
    """JPEGs of one round of events by ids, which are hashes. Those of the last round are not encoded again."""

    def __init__(self, before: Images | None = None) -> None:
        self.jpegs: dict[str, bytes] = {}
        self._known = before.jpegs if before else {}

    def add(self, thumbnail: Any) -> str:
        """The id of a sensor_msgs/CompressedImage; empty if it is no image."""
        data = bytes(thumbnail.data)
        if not data:
            return ""
        name = blake2b(data, digest_size=16).hexdigest()
        jpeg = self.jpegs.get(name) or self._known.get(name) or small_jpeg(thumbnail)
        if not jpeg:
            return ""
        self.jpegs[name] = jpeg
        return name


def entry_fields(entry: Any) -> dict[str, Any]:
    """A MemoryEntry without its image. `at` is the stamp of the image, `pose` where it was recorded; empty: unknown."""
    return {
        "key_frame": entry.kind == entry.KEY_FRAME,
        "camera": bounded_text(entry.camera),
        "since": seconds(entry.since),
        "until": seconds(entry.until),
        "at": seconds(entry.thumbnail.header.stamp),
        "weight": _finite(entry.weight),
        "pose": bounded_text(pose_text(entry)) if entry.pose_known else "",
    }


def memory_fields(entries: Sequence[Any], images: Images) -> dict[str, Any]:
    """The entries of the memory, with ids of their images."""
    shown = entries[:MAX_ENTRIES]
    return {
        "entries": [{**entry_fields(entry), "image": images.add(entry.thumbnail)} for entry in shown],
        "omitted": len(entries) - len(shown),
    }


def newest_fields(entries: Sequence[Any], images: Images) -> dict[str, Any]:
    """The newest image of each camera among `entries`."""
    newest = {entry.camera: entry for entry in sorted(entries, key=lambda entry: _stamp(entry.thumbnail.header.stamp))}
    return {
        "pictures": [
            {
                "camera": bounded_text(camera),
                "at": seconds(entry.thumbnail.header.stamp),
                "image": images.add(entry.thumbnail),
            }
            for camera, entry in sorted(newest.items())[:MAX_CAMERAS]
        ]
    }


def watches_fields(reply: Any, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A ListWatches reply, and the last events as `event_fields` gives them."""
    return {
        "watches": [
            {
                "text": bounded_text(status.watch.text),
                "cameras": texts(status.watch.cameras, MAX_CAMERAS),
                "active": bool(status.active),
                "probability": _finite(status.probability) if status.checks else None,
                "on": _finite(status.watch.on),
                "problem": bounded_text(status.problem),
            }
            for status in reply.watches[:MAX_WATCHES]
        ],
        "device_share": _finite(reply.device_share),
        "events": list(events),
    }


def event_fields(event: Any) -> dict[str, Any]:
    """An Event without its evidence."""
    return {
        "began": event.kind == event.BEGAN,
        "text": bounded_text(event.text),
        "camera": bounded_text(event.camera),
        "at": seconds(event.header.stamp),
        "probability": _finite(event.probability),
        "reason": bounded_text(event.reason),
        "note": MODEL_NOTES.get(int(event.model_kind), ""),
    }


def answer_fields(reply: Any) -> dict[str, Any]:
    """An AskScene reply without error."""
    return {
        "answer": bounded_text(reply.answer),
        "confidence": _finite(reply.confidence),
        "calibrated": bool(reply.calibrated),
        "first_token": seconds(reply.time_to_first_token),
        **_common_fields(reply, reply.evidence),
    }


def moments_fields(reply: Any) -> dict[str, Any]:
    """A Search reply without error."""
    return _common_fields(reply, reply.moments)


def error_sentence(reply: Any) -> str:
    return f"error {int(reply.error_code)}: {bounded_text(reply.error_msg)}"


def texts(items: Sequence[str], most: int = MAX_NOTES) -> list[str]:
    return [bounded_text(item) for item in items[:most]]


def _common_fields(reply: Any, entries: Sequence[Any]) -> dict[str, Any]:
    return {
        "duration": seconds(reply.duration),
        "covered": [seconds(reply.covered_since), seconds(reply.covered_until)],
        "notes": [*filter(None, [MODEL_NOTES.get(int(reply.model_kind))]), *texts(reply.adjustments)],
        "evidence": [_evidence_fields(entry) for entry in entries[:MAX_ENTRIES]],
    }


def _evidence_fields(entry: Any) -> dict[str, Any]:
    jpeg = small_jpeg(entry.thumbnail) if len(entry.thumbnail.data) else None
    return {
        **entry_fields(entry),
        "relevance": _finite(entry.relevance),
        "jpeg": base64.b64encode(jpeg).decode() if jpeg else "",
    }


def _stamp(stamp: Any) -> tuple[int, int]:
    return stamp.sec, stamp.nanosec


def _finite(value: float) -> float:
    """`value` as JSON can express it."""
    return round(float(value), 6) if math.isfinite(value) else 0.0
