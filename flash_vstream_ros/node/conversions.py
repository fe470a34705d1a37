"""Between the engine's dataclasses and the messages of msg/ and srv/. Stamps are nanoseconds inside, Time outside."""

from __future__ import annotations

from collections.abc import Sequence

from flash_vstream_ros.engine.answering.request_queue import Answer, Question
from flash_vstream_ros.engine.status import News, Status
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import MemoryEntry as Entry
from flash_vstream_ros.node.diagnostics import Report
from flash_vstream_ros.ros.interfaces import (
    AskScene,
    CompressedImage,
    DiagnosticArray,
    DiagnosticStatus,
    DurationMsg,
    Forget,
    Header,
    KeyValue,
    ListMemory,
    MemoryEntry,
    MemoryStatus,
    SceneSummary,
    TimeMsg,
)

SECOND_NS = 1_000_000_000


def nanoseconds(stamp: TimeMsg | DurationMsg) -> int:
    return int(stamp.sec) * SECOND_NS + int(stamp.nanosec)


def time_message(stamp_ns: int) -> TimeMsg:
    sec, nanosec = divmod(stamp_ns, SECOND_NS)
    return TimeMsg(sec=sec, nanosec=nanosec)


def duration_message(seconds: float) -> DurationMsg:
    sec, nanosec = divmod(round(seconds * SECOND_NS), SECOND_NS)
    return DurationMsg(sec=sec, nanosec=nanosec)


def question(request: AskScene.Request) -> Question:
    return Question(
        text=request.question,
        scope=scope(request),
        deadline_s=nanoseconds(request.deadline) / SECOND_NS,
        max_new_tokens=int(request.max_new_tokens),
    )


def scope(request: AskScene.Request | Forget.Request | ListMemory.Request) -> Scope:
    return Scope(tuple(request.cameras), nanoseconds(request.since), nanoseconds(request.until))


def fill_response(response: AskScene.Response, answer: Answer) -> AskScene.Response:
    response.error_code = int(answer.error_code)
    response.error_msg = answer.error_msg
    response.answer = answer.text
    response.token_probability = float(answer.token_probability)
    response.evidence = [entry_message(evidence.entry, evidence.relevance) for evidence in answer.evidence]
    response.covered_since = time_message(answer.covered_since_ns)
    response.covered_until = time_message(answer.covered_until_ns)
    response.newest_frame = time_message(answer.newest_ns)
    response.memory_tokens = answer.memory_tokens
    response.cached_tokens = answer.cached_tokens
    response.lag_slots = answer.lag_slots
    response.time_to_first_token = duration_message(answer.time_to_first_token_s)
    response.duration = duration_message(answer.duration_s)
    return response


def entry_message(entry: Entry, relevance: float = 0.0, *, thumbnail: bool = True) -> MemoryEntry:
    picture = CompressedImage(
        header=Header(stamp=time_message(entry.thumbnail_ns), frame_id=entry.frame_id),
        format="jpeg",
        data=entry.thumbnail if thumbnail else b"",
    )
    return MemoryEntry(
        kind=int(entry.kind),
        camera=entry.camera,
        since=time_message(entry.first_ns),
        until=time_message(entry.last_ns),
        weight=float(entry.weight),
        relevance=float(relevance),
        thumbnail=picture,
    )


def summary_message(answer: Answer, news: News) -> SceneSummary:
    """The summary of what the memory took in between two moments."""
    return SceneSummary(
        header=Header(stamp=time_message(answer.covered_until_ns), frame_id=answer.frame_id),
        text=answer.text,
        cameras=list(answer.cameras),
        since=time_message(answer.covered_since_ns),
        until=time_message(answer.covered_until_ns),
        frames=news.frames,
        novelty=float(news.novelty),
    )


def diagnostics_message(reports: Sequence[Report], now: TimeMsg, node: str, hardware_id: str) -> DiagnosticArray:
    """As diagnostic_updater names things: "node: task"."""
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
        frames_gated=frames.gated,
        frames_dropped=frames.dropped,
        frames_pending=frames.pending,
        drop_reasons=[reason for reason, _ in frames.drops],
        drop_counts=[count for _, count in frames.drops],
        resolution_changes=frames.resolution_changes,
        newest_frame=time_message(frames.newest_ns),
        jumps_back=frames.jumps_back,
        jumps_forward=frames.jumps_forward,
        slots=memory.slots,
        memory_entries=memory.entries,
        memory_capacity=memory.capacity,
        memory_tokens=memory.tokens,
        memory_bytes=memory.bytes,
        device_bytes=memory.device_bytes,
        covered_since=time_message(memory.first_ns),
        covered_until=time_message(memory.last_ns),
        prefix_cache_bytes=status.warm.bytes,
        cached_tokens=status.warm.tokens,
        cached_until=time_message(status.warm.until_ns),
        prefix_cache_failures=status.warm.failures,
        encode_p50=memory.encode_s[0],
        encode_p95=memory.encode_s[1],
        update_p50=memory.update_s[0],
        update_p95=memory.update_s[1],
        first_token_p50=status.first_token_s[0],
        first_token_p95=status.first_token_s[1],
        answer_p50=status.answer_s[0],
        answer_p95=status.answer_s[1],
        questions_answered=status.questions_answered,
        questions_cached=status.questions_cached,
        questions_failed=status.questions_failed,
        last_error=status.last_error,
    )
