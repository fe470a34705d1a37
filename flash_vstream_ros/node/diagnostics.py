"""Reports for /diagnostics: levels, sentences and values, made from the engine's status with the thresholds below.

Thresholds are in the node's time, so that they mean the same in simulated time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from flash_vstream_ros.engine.ingest.mailbox import FrameCounts
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.engine.status import Status
from flash_vstream_ros.engine.watches.watch import WatchesStatus
from flash_vstream_ros.ros.stamps import SECOND_NS

SILENT_S = 3.0  # WARN after this time without an image, or after two sampling periods if they are longer
LOST_S = 30.0  # ERROR after this time without an image, or after twenty sampling periods
LATE_S = 5.0  # WARN if an image is older than this on arrival, or its stamp is as far ahead of the clock
MANY_DROPS = 0.1  # WARN if a larger share of the due frames is dropped; ERROR if all are
FEWEST_DROPS = 3  # fewer dropped frames are not reported
REQUESTED = frozenset({"paused", "forgotten"})  # drops that a user asked for are no problem
WINDOW = 10  # number of diagnostic periods over which rates and drops are computed


class Level(IntEnum):
    """The constants of diagnostic_msgs/DiagnosticStatus, with the same names and numbers."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


Finding = tuple[Level, str]


@dataclass(frozen=True)
class Report:
    """One status of a diagnostic_msgs/DiagnosticArray, which is named "node: `task`"."""

    task: str
    level: Level
    message: str
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Observation:
    """The engine's status at one moment of the node's clock."""

    now_ns: int
    status: Status

    def counts(self, camera: str) -> FrameCounts | None:
        return dict(self.status.cameras).get(camera)


@dataclass(frozen=True)
class CameraView:
    """Counts and times of one camera over the last periods. Durations in seconds of the node's time."""

    name: str
    topic: str
    before: FrameCounts
    now: FrameCounts
    elapsed_s: float  # between `before` and `now`
    silent_s: float  # since the last image, or since the node began to expect images
    period_s: float  # between the last two observations
    age_s: float  # of the newest stamp; 0 before the first
    sample_period_s: float
    camera_findings: tuple[str, ...] = ()  # sentences about incompatible publishers and lost images

    @property
    def drops(self) -> dict[str, int]:
        """Frames dropped between `before` and `now`, by reason."""
        before = dict(self.before.drops)
        return {
            reason: count - before.get(reason, 0) for reason, count in self.now.drops if count > before.get(reason, 0)
        }

    def rate(self, count: int) -> float:
        return max(0, count) / self.elapsed_s if self.elapsed_s > 0 else 0.0


class History:
    """The observations of the last periods, and the time of each camera's last image. Not thread safe."""

    def __init__(self) -> None:
        self._observations: deque[Observation] = deque(maxlen=WINDOW + 1)
        self._received: dict[str, tuple[int, int]] = {}  # per camera: images received, and when that last changed

    def add(self, observation: Observation) -> None:
        """Add an observation. If the clock went back or counters restarted, a new history begins."""
        newest = self._observations[-1] if self._observations else observation
        if observation.now_ns < newest.now_ns or observation.status.frames.received < newest.status.frames.received:
            self._observations.clear()
            self._received.clear()
        if self._observations and observation.now_ns == self._observations[-1].now_ns:
            self._observations[-1] = observation  # the clock stands still: keep the previous rates
        else:
            self._observations.append(observation)
        for camera, counts in observation.status.cameras:
            if self._received.get(camera, (-1, 0))[0] != counts.received or not _watched(observation.status.state):
                self._received[camera] = counts.received, observation.now_ns

    def camera(
        self, name: str, topic: str, sample_period_s: float, camera_findings: Sequence[str] = ()
    ) -> CameraView | None:
        """The view of one camera; None before the first observation and for an unknown camera."""
        if not self._observations or (now := self._observations[-1].counts(name)) is None:
            return None
        first, newest = self._observations[0], self._observations[-1]
        before = self._observations[-2] if len(self._observations) > 1 else newest
        return CameraView(
            name=name,
            topic=topic,
            before=first.counts(name) or now,
            now=now,
            elapsed_s=(newest.now_ns - first.now_ns) / SECOND_NS,
            silent_s=(newest.now_ns - self._received[name][1]) / SECOND_NS,
            period_s=(newest.now_ns - before.now_ns) / SECOND_NS,
            age_s=(newest.now_ns - now.newest_ns) / SECOND_NS if now.newest_ns else 0.0,
            sample_period_s=sample_period_s,
            camera_findings=tuple(camera_findings),
        )


def _watched(state: State) -> bool:
    """Returns True if images are expected: not while the model is loading, for example."""
    return state is State.READY


def camera_report(view: CameraView, state: State) -> Report:
    """The report of one camera. It has findings only while images are expected."""
    findings: list[Finding] = []
    if _watched(state):
        findings = [*_camera_findings(view), *_silence(view), *_lateness(view), *_drops(view)]
    received = view.rate(view.now.received - view.before.received)
    ingested = view.rate(view.now.ingested - view.before.ingested)
    fine = f"{received:.1f} images/s, {ingested:.2f}/s ingested"
    if not _watched(state):
        fine = f"not watched: the node is {state.name.lower()}"
    elif not view.now.received:
        fine = f"waiting for the first image on {view.topic}"
    values = {
        "topic": view.topic,
        "rate received [1/s]": f"{received:.2f}",
        "rate ingested [1/s]": f"{ingested:.3f}",
        "frame age [s]": f"{view.age_s:.3f}" if view.now.newest_ns else "",
        "silent for [s]": f"{view.silent_s:.1f}",
        "received": str(view.now.received),
        "ingested": str(view.now.ingested),
        "ingested, static": str(view.now.static),
        "not sampled": str(view.now.not_sampled),
        "faces covered in": str(view.now.covered),
        "waiting": str(view.now.pending),
        "dropped": str(view.now.dropped),
        **{f"dropped: {reason}": str(count) for reason, count in view.now.drops},
    }
    return _report(f"camera {view.name}", findings, fine, values)


def unwatched_report(camera: str, topic: str) -> Report:
    """The report of a camera while there is no engine."""
    return _report(f"camera {camera}", [], "not watched: the node is not configured", {"topic": topic})


def model_report(status: Status | None, model: str, now_ns: int) -> Report:
    """The report of the engine and its model; `status` is None if there is no engine."""
    if status is None:
        return _report("model", [], "not configured", {"model": model})
    findings: list[Finding] = []
    if status.state is State.LOADING:
        findings.append((Level.WARN, f"loading {model}: questions are answered NOT_READY"))
    if status.state is State.FAILED:
        findings.append((Level.ERROR, f"the model failed to load: {status.last_error}"))
    if status.questions_waiting >= status.question_queue:
        findings.append((Level.WARN, f"{status.questions_waiting} questions wait: further ones are answered BUSY"))
    if now_ns == 0:
        findings.append((Level.WARN, "the node's clock is 0: use_sim_time is set, but nothing publishes /clock"))
    memory = status.memory
    values = {
        "model": model,
        "state": status.state.name,
        **_percentiles("encode a slot", memory.encode_s),
        **_percentiles("update the memory", memory.update_s),
        **_percentiles("first token", status.first_token_s),
        **_percentiles("answer", status.answer_s),
        "questions answered": str(status.questions_answered),
        "questions answered from the prefix cache": str(status.questions_cached),
        "questions failed": str(status.questions_failed),
        "questions waiting": f"{status.questions_waiting} of {status.question_queue}",
        "faces covered": "yes" if status.blur_faces else "no",
        "last error": status.last_error,
    }
    return _report("model", findings, status.state.name.lower(), values)


def memory_report(status: Status | None) -> Report:
    """The report of the memory: its sizes, the time span that it covers and its snapshots on the disk."""
    if status is None:
        return _report("memory", [], "empty", {})
    snapshots, archive, start = status.snapshots, status.archive, status.memory_start
    findings = [(Level.WARN, problem) for problem in (snapshots.problem, archive.problem) if problem]
    if start.under_way:
        progress = f"{start.done} of {start.key_frames} key frames"
        findings.append((Level.WARN, f"the memory is being rebuilt from the archive: {progress}"))
    on_disk = {
        "snapshots saved": str(snapshots.saved),
        "snapshots failed": str(snapshots.failed),
        "snapshot bytes": str(snapshots.bytes),
        "snapshot copied in [s]": f"{snapshots.copy_s:.4f}",
        "snapshot written in [s]": f"{snapshots.write_s:.4f}",
        "slots restored": str(snapshots.restored_slots),
        "began": start.sentence,
        "key frames rebuilt": f"{start.done - start.left_out} of {start.key_frames}",
    }
    archived = {
        "archived key frames": str(archive.key_frames),
        "archive bytes": f"{archive.bytes} of {archive.max_bytes}",
        "archive: written": str(archive.written),
        "archive: thinned": str(archive.thinned),
        "archive: dropped": str(archive.dropped),
        "archive: failed": str(archive.failed),
        "archive: problems": str(archive.problems),
        "archive: clock set back": str(archive.clock_set_back),
    }
    on_disk = {**(on_disk if snapshots.path else {}), **(archived if archive.path else {})}
    if not status.memory.slots:
        return _report("memory", findings, "empty", on_disk)
    memory = status.memory
    span_s = (memory.last_ns - memory.first_ns) / SECOND_NS
    values = {
        "entries": f"{memory.entries} of {memory.capacity}",
        "tokens": str(memory.tokens),
        "bytes": str(memory.bytes),
        "GPU bytes": str(memory.device_bytes),
        "prefix cache bytes": str(status.prefix_cache.bytes),
        "prefix cache tokens": str(status.prefix_cache.tokens),
        "prefix cache until": f"{status.prefix_cache.until_ns / SECOND_NS:.3f}" if status.prefix_cache.until_ns else "",
        "prefix cache failures": str(status.prefix_cache.failures),
        "slots ingested": str(memory.slots),
        "covered since": f"{memory.first_ns / SECOND_NS:.3f}",
        "covered until": f"{memory.last_ns / SECOND_NS:.3f}",
        "covered span [s]": f"{span_s:.3f}",
        **on_disk,
    }
    fine = f"{memory.entries} of {memory.capacity} entries, {memory.tokens} tokens, {span_s:.0f} s covered"
    return _report("memory", findings, fine, values)


def watches_report(watches: WatchesStatus) -> Report:
    """The report of the watches: how many are active, their share of the device's time, and what keeps them late."""
    findings = [(Level.WARN, f"watch {each.watch.id}: {each.problem}") for each in watches.watches if each.problem]
    active = sum(each.active for each in watches.watches)
    values = {
        "watches": str(len(watches.watches)),
        "active": str(active),
        "device share": f"{watches.device_share:.3f}",
        "events": str(watches.events),
        "checks missed": str(watches.missed),
        "checks failed": str(watches.failures),
    }
    return _report("watches", findings, f"{active} of {len(watches.watches)} watches active", values)


def _camera_findings(view: CameraView) -> list[Finding]:
    return [(Level.WARN, sentence) for sentence in view.camera_findings]


def _silence(view: CameraView) -> list[Finding]:
    sentence = f"no image for {view.silent_s:.0f} s" if view.now.received else f"no image yet on {view.topic}"
    if view.silent_s >= max(LOST_S, 20 * view.sample_period_s):
        return [(Level.ERROR, sentence)]
    return [(Level.WARN, sentence)] if view.silent_s >= max(SILENT_S, 2 * view.sample_period_s) else []


def _lateness(view: CameraView) -> list[Finding]:
    late_s = view.age_s - view.silent_s  # age of the newest image when it arrived
    if late_s > LATE_S + view.period_s:
        return [
            (
                Level.WARN,
                f"images are {late_s:.1f} s old on arrival: compare use_sim_time and the clocks of node and camera",
            )
        ]
    if view.age_s < -LATE_S:
        return [(Level.WARN, f"stamps are {-view.age_s:.1f} s ahead of the node's clock: synchronise the clocks")]
    return []


def _drops(view: CameraView) -> list[Finding]:
    lost = {reason: count for reason, count in view.drops.items() if reason not in REQUESTED}
    dropped, ingested = sum(lost.values()), view.now.ingested - view.before.ingested
    due = dropped + max(0, ingested)
    if dropped < FEWEST_DROPS or dropped <= MANY_DROPS * due:
        return []
    reasons = ", ".join(f"{reason} {count}" for reason, count in lost.items())
    level = Level.ERROR if dropped == due else Level.WARN
    return [(level, f"{dropped} of {due} due frames were dropped: {reasons}")]


def _percentiles(work: str, seconds: tuple[float, float]) -> dict[str, str]:
    return {f"{work} p50 [s]": f"{seconds[0]:.4f}", f"{work} p95 [s]": f"{seconds[1]:.4f}"}


def _report(task: str, findings: list[Finding], fine: str, values: dict[str, str]) -> Report:
    """A report with the worst level, and the sentences of the worst findings first; without findings, `fine`."""
    worst_first = sorted(findings, key=lambda finding: -finding[0])
    message = "; ".join(sentence for _, sentence in worst_first) or fine
    return Report(task, worst_first[0][0] if worst_first else Level.OK, message, tuple(values.items()))
