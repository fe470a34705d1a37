"""Converts the engine's dataclasses to the messages of msg/ and srv/, and nanoseconds to Time and Duration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flash_vstream_ros.engine.answering.question import Answer, Evidence
from flash_vstream_ros.engine.log_text import log_entry
from flash_vstream_ros.engine.reports.summary import Summary
from flash_vstream_ros.engine.status import NewSlots, Status
from flash_vstream_ros.memory.pose import Pose, UnknownPose
from flash_vstream_ros.memory.slot import EntryKind
from flash_vstream_ros.memory.slot import MemoryEntry as Entry
from flash_vstream_ros.node.diagnostics import Report
from flash_vstream_ros.node.poses.pose_messages import pose_message
from flash_vstream_ros.ros.interfaces import (
    CompressedImage,
    DiagnosticArray,
    DiagnosticStatus,
    Header,
    KeyValue,
    MemoryEntry,
    MemoryStatus,
    ReportSection,
    SceneSummary,
    Search,
    TimeMsg,
)
from flash_vstream_ros.ros.stamps import duration_message, stamp_message

ENTRY_KIND = {EntryKind.CSM: MemoryEntry.SYNOPSIS, EntryKind.DAM: MemoryEntry.KEY_FRAME}


def fill_response(response: Any, answer: Answer) -> Any:
    """Fill a reply of the service AskScene, or a result of the action with the same fields."""
    _fill_common(response, answer)
    response.answer = answer.text
    response.token_probability = float(answer.token_probability)
    response.confidence = float(answer.confidence)
    response.calibrated = answer.calibrated
    response.evidence = evidence_messages(answer.evidence)
    response.time_to_first_token = duration_message(answer.time_to_first_token_s)
    return response


def fill_search_response(response: Search.Response, answer: Answer) -> Search.Response:
    _fill_common(response, answer)
    response.moments = [entry_message(moment.entry, moment.relevance) for moment in answer.evidence]
    return response


def _fill_common(response: Any, answer: Answer) -> None:
    """Fill the fields that AskScene and Search have in common."""
    response.error_code = int(answer.error_code)
    response.error_msg = answer.error_msg
    response.model_kind = int(answer.model_kind)
    response.adjustments = [*response.adjustments, *answer.adjustments]
    response.covered_since = stamp_message(answer.covered_since_ns)
    response.covered_until = stamp_message(answer.covered_until_ns)
    response.newest_frame = stamp_message(answer.newest_ns)
    response.memory_tokens = answer.memory_tokens
    response.cached_tokens = answer.cached_tokens
    response.lag_slots = answer.lag_slots
    response.duration = duration_message(answer.duration_s)


def evidence_messages(evidence: Sequence[Evidence]) -> list[MemoryEntry]:
    return [entry_message(item.entry, item.relevance) for item in evidence]


def entry_message(entry: Entry, relevance: float = 0.0, *, thumbnail: bool = True) -> MemoryEntry:
    pose = entry.pose
    return MemoryEntry(
        kind=ENTRY_KIND[entry.kind],
        camera=entry.camera,
        since=stamp_message(entry.first_ns),
        until=stamp_message(entry.last_ns),
        weight=float(entry.weight),
        relevance=float(relevance),
        thumbnail=_jpeg_message(entry.thumbnail_ns, entry.frame_id, entry.thumbnail if thumbnail else b""),
        pose_known=isinstance(pose, Pose),
        pose_unknown=pose.reason if isinstance(pose, UnknownPose) else "",
        pose=pose_message(pose),
        pose_spread=entry.region.spread_m(pose),
        map_id=pose.map_id if isinstance(pose, Pose) else "",
    )


def _jpeg_message(stamp_ns: int, frame_id: str, jpeg: bytes) -> CompressedImage:
    return CompressedImage(header=Header(stamp=stamp_message(stamp_ns), frame_id=frame_id), format="jpeg", data=jpeg)


def summary_message(answer: Answer, new: NewSlots) -> SceneSummary:
    """The summary of the slots that `new` counts."""
    return SceneSummary(
        header=Header(stamp=stamp_message(answer.covered_until_ns), frame_id=answer.frame_id),
        text=answer.text,
        cameras=list(answer.cameras),
        since=stamp_message(answer.covered_since_ns),
        until=stamp_message(answer.covered_until_ns),
        frames=new.frames,
        novelty=float(new.novelty),
    )


def section_message(summary: Summary, *, pictures: bool) -> ReportSection:
    return ReportSection(
        level=int(summary.level),
        since=stamp_message(summary.since_ns),
        until=stamp_message(summary.until_ns),
        text=summary.text,
        cameras=list(summary.cameras),
        frames=summary.frames,
        novelty=float(summary.novelty),
        pictures=[
            _jpeg_message(picture.stamp_ns, picture.frame_id, picture.jpeg)
            for picture in (summary.pictures if pictures else ())
        ],
    )


def diagnostics_message(reports: Sequence[Report], now: TimeMsg, node: str, hardware_id: str) -> DiagnosticArray:
    """An array of `reports`; each status is named "node: task", as diagnostic_updater names them."""
    return DiagnosticArray(
        header=Header(stamp=now),
        status=[
            DiagnosticStatus(
                level=bytes([report.level]),
                name=f"{node}: {report.task}",
                message=report.message,
                hardware_id=hardware_id,
                values=[KeyValue(key=key, value=value) for key, value in report.values],
            )
            for report in reports
        ],
    )


def status_message(status: Status, now: TimeMsg, model: str, cameras: Sequence[str]) -> MemoryStatus:
    frames, memory = status.frames, status.memory
    return MemoryStatus(
        header=Header(stamp=now),
        state=int(status.state),
        paused=status.paused,
        model=model,
        cameras=list(cameras),
        frames_received=frames.received,
        frames_encoded=frames.encoded,
        frames_static=frames.static,
        frames_not_sampled=frames.not_sampled,
        frames_dropped=frames.dropped,
        frames_pending=min(frames.pending, 255),
        drop_reasons=[reason for reason, _ in frames.drops],
        drop_counts=[count for _, count in frames.drops],
        resolution_changes=frames.resolution_changes,
        newest_frame=stamp_message(frames.newest_ns),
        jumps_back=frames.jumps_back,
        jumps_forward=frames.jumps_forward,
        slots=memory.slots,
        memory_entries=memory.entries,
        memory_capacity=memory.capacity,
        memory_tokens=memory.tokens,
        memory_bytes=memory.bytes,
        device_bytes=memory.device_bytes,
        covered_since=stamp_message(memory.first_ns),
        covered_until=stamp_message(memory.last_ns),
        prefix_cache_bytes=status.prefix_cache.bytes,
        cached_tokens=status.prefix_cache.tokens,
        cached_until=stamp_message(status.prefix_cache.until_ns),
        prefix_cache_failures=status.prefix_cache.failures,
        encode_p50=duration_message(memory.encode_s[0]),
        encode_p95=duration_message(memory.encode_s[1]),
        update_p50=duration_message(memory.update_s[0]),
        update_p95=duration_message(memory.update_s[1]),
        first_token_p50=duration_message(status.first_token_s[0]),
        first_token_p95=duration_message(status.first_token_s[1]),
        answer_p50=duration_message(status.answer_s[0]),
        answer_p95=duration_message(status.answer_s[1]),
        questions_answered=status.questions_answered,
        questions_cached=status.questions_cached,
        questions_failed=status.questions_failed,
        last_error=log_entry(status.last_error),
    )
