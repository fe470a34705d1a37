"""Checks watches on the newest slots, in units of at most one short pass of the model, while nothing else waits."""

from __future__ import annotations

import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch

from flash_vstream_ros.engine.answering.background_budget import BackgroundBudget
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.log_text import one_line
from flash_vstream_ros.memory.scope import Scope

from .hysteresis import Change, Phase, step
from .slot_questions import NO_SLOT, NoSlot, SlotQuestions, View
from .spent_time import SpentTime
from .watch import BadWatch, Watch, WatchConfig, WatchesStatus, WatchEvent, WatchStatus, problem_of_watch
from .watch_file import WatchFile, WatchFileError

RETRY_S = 30.0  # pause after a failure


@dataclass
class _Watched:
    """A watch and its state."""

    watch: Watch
    due: float  # on the steady clock [s]
    phase: Phase = field(default_factory=Phase)
    views: dict[str, View] = field(default_factory=dict)  # of the newest slots of each camera
    checks: int = 0
    missed: int = 0
    problem: str = ""  # why it cannot be checked
    late: str = ""  # why it is not checked as often as asked

    @property
    def strongest(self) -> tuple[str, View] | None:
        """The camera with the highest probability, and what was found there; None before the first check."""
        return max(self.views.items(), key=lambda item: item[1].probability, default=None)


@dataclass
class _Round:
    """The watches that are due together, and those that have to ask about each camera's newest slots."""

    due: list[_Watched]
    asking: deque[tuple[str, deque[_Watched]]]
    camera: str | None = None  # whose newest slots are in the prefix; they stay there until its watches have asked


class Watches:
    """The watches of one worker, and the only owner of their state. For the worker's thread.

    Watches that are due together share the prefix of their prompts, the newest slots of a camera. Each is asked about a
    slot once: while the newest slot stays the same, its probability does too.
    """

    def __init__(
        self,
        context: Context,
        cameras: Sequence[str],
        config: WatchConfig,
        chunk_tokens: Callable[[], int],
        emit: Callable[[WatchEvent], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self._memory = context.memory
        self._model_kind = context.model.kind
        self._log = context.log
        self._cameras = tuple(cameras)
        self._emit = emit
        self._now = now
        self._slots = SlotQuestions(context, chunk_tokens)
        self._budget = BackgroundBudget(now)
        self._spent = SpentTime(now)
        self._file = WatchFile(config.path) if config.path else None
        self._watched: dict[str, _Watched] = {}
        self._round: _Round | None = None
        self._revision = self._memory.revision
        self._paused_until = -math.inf
        self._is_suspended = True  # nothing is checked: no check is missed
        self._events = self._failures = self._missed = 0

    def restore(self) -> str:
        """Continue with the watches in the file. Returns a sentence for the log, or ""."""
        if self._file is None:
            return ""
        try:
            kept = self._file.read()
        except WatchFileError as error:
            self._log.report("watches", str(error))
            return ""
        for watch in kept:
            if problem := self._problem_of(watch):
                self._log.report(f"watch {watch.id}", f"watch {one_line(watch.id)} is not restored: {problem}")
            else:
                self._watched[watch.id] = _Watched(watch, self._now())
        return f"restored {len(self._watched)} watches from {self._file.path}" if self._watched else ""

    def add(self, watch: Watch) -> Future[None] | None:
        """Add a watch; the same one again changes nothing. Raises BadWatch.

        Returns the write of the file, which may raise WatchFileError; None if no file is kept.
        """
        known = self._watched.get(watch.id)
        if known is not None and known.watch == watch:
            return None
        if problem := self._problem_of(watch):
            raise BadWatch(problem)
        self._watched[watch.id] = _Watched(watch, self._now())
        return self._write()

    def remove(self, watch_id: str) -> Future[None] | None:
        """Remove a watch; if it is active, it ends. Raises BadWatch. Returns the write of the file as `add` does."""
        watched = self._watched.pop(watch_id, None)
        if watched is None:
            raise BadWatch(f"there is no watch with the id {one_line(watch_id)!r}; list the watches")
        self._drop_round()
        self._end(watched, "removed")
        return self._write()

    @property
    def status(self) -> WatchesStatus:
        watches = tuple(_status(watched) for watched in self._watched.values())
        return WatchesStatus(watches, self._spent.share, self._events, self._failures, self._missed)

    def forget(self, scope: Scope) -> None:
        """Forget what was found in `scope`, and the keys and values of the slots checked last; active watches end."""
        self._drop_round()
        self._slots.clear()
        for watched in self._watched.values():
            since_ns = watched.phase.above_since_ns or watched.phase.newest_ns
            in_time = scope.interval.touches(since_ns, watched.phase.newest_ns)
            if in_time and any(map(scope.has_camera, watched.views)):
                self._end(watched, "forgotten")
                watched.views.clear()
                watched.phase = Phase()

    def suspend(self) -> None:
        """Check nothing until the next `check`; what is due meanwhile does not count as missed."""
        self._is_suspended = True

    def check(self) -> float | None:
        """Run one unit of work: at most one pass of the model over a chunk of a prompt.

        Returns the time [s] after which to call again, 0 if there may be more to do; None if there is nothing to check.
        """
        if not self._watched or not self.config.device_share:
            self._is_suspended = True
            return None
        if self._memory.revision != self._revision:
            self._revision = self._memory.revision
            self._drop_round()
            self._slots.clear()
        now = self._now()
        if self._paused_until > now:
            return self._paused_until - now
        if self._is_suspended:
            self._is_suspended = False
            for watched in self._watched.values():
                watched.due = max(watched.due, now)
        wait_s = self._budget.wait_s(self.config.device_share)
        if self._round is None:
            wait_s = max(wait_s, min(watched.due for watched in self._watched.values()) - now)
        if wait_s > 0:
            return wait_s
        try:
            if self._round is None:
                self._begin_round(now)
            else:
                self._run_unit(self._round)
        except Exception as error:
            self._fail(error)
        spent_s = self._now() - now
        self._budget.spend(spent_s)
        self._spent.add(spent_s)
        return 0.0

    def close(self) -> None:
        self._drop_round()
        self._slots.clear()
        if self._file is not None:
            self._file.close()

    def _problem_of(self, watch: Watch) -> str:
        """The reason to refuse a watch; "" if it can be added."""
        if problem := problem_of_watch(watch, self._cameras, self.config.max_chars):
            return problem
        if watch.id in self._watched:
            return f"the id {watch.id!r} is in use by another watch: remove that one first, or give another id"
        if len(self._watched) >= self.config.max_watches:
            return f"there are {len(self._watched)} watches, and watch.max_watches allows no more: remove one first"
        return ""

    def _write(self) -> Future[None] | None:
        if self._file is None:
            return None
        return self._file.write([watched.watch for watched in self._watched.values()])

    def _begin_round(self, now: float) -> None:
        """Collect the watches that are due, and what they have to ask."""
        due = [watched for watched in self._watched.values() if watched.due <= now]
        asking = deque[tuple[str, deque[_Watched]]]()
        for camera in self._cameras:
            watching = [each for each in due if not each.watch.cameras or camera in each.watch.cameras]
            try:
                newest = self._slots.newest(camera, self.config.slots) if watching else None
            except NoSlot as error:
                _note_problem(watching, error)
                continue
            if newest is None:
                continue
            group = deque[_Watched]()
            for watched in watching:
                view = watched.views.get(camera)
                if view is not None and view.slots == newest.slots:
                    watched.views[camera] = view._replace(stamp_ns=newest.stamp_ns)
                else:
                    group.append(watched)
            if group:
                asking.append((camera, group))
        self._round = _Round(due, asking)
        if not asking:
            self._finish_round(self._round)

    def _run_unit(self, round_: _Round) -> None:
        camera, group = round_.asking[0]
        try:
            if round_.camera != camera:
                self._slots.show(camera, self.config.slots)
                round_.camera = camera
                return
        except NoSlot as error:
            _note_problem(group, error)
            group.clear()
        else:
            view = self._slots.ask(group[0].watch.question(self.config.prompt))
            if view is None:
                return
            watched = group.popleft()
            watched.views[camera] = view
            watched.problem = ""
        if not group:
            round_.asking.popleft()
        if not round_.asking:
            self._finish_round(round_)

    def _finish_round(self, round_: _Round) -> None:
        """Update the phase of each watch that was due, and plan its next check."""
        self._round = None
        now = self._now()
        for watched in round_.due:
            self._plan(watched, now)
            if watched.strongest is not None:
                self._update(watched, *watched.strongest)

    def _plan(self, watched: _Watched, now: float) -> None:
        """Set the time of the next check: a multiple of the period, so that equal periods are due together."""
        period_s = watched.watch.period_s
        missed = int((now - watched.due) / period_s)
        watched.due = (math.floor(now / period_s) + 1) * period_s
        watched.late = ""
        if missed:
            watched.missed += missed
            self._missed += missed
            watched.late = (
                f"it cannot keep its period of {period_s:g} s, the last check was {missed} periods late: the device is "
                "busy, or watch.device_share is used up; make the period longer, watch for less, or raise that share"
            )
            self._log.report(f"watch {watched.watch.id}", f"watch {watched.watch.id}: {watched.late}")

    def _update(self, watched: _Watched, camera: str, view: View) -> None:
        watched.checks += 1
        stamp_ns = max(each.stamp_ns for each in watched.views.values())
        watched.phase, change = step(watched.phase, watched.watch.thresholds, stamp_ns, view.probability)
        if change is not None:
            entry = self._slots.entry(camera, view)
            self._publish(
                WatchEvent(watched.watch, change, view.probability, view.stamp_ns, camera, entry, self._model_kind)
            )

    def _end(self, watched: _Watched, reason: str) -> None:
        """End an active watch for another reason than its probability."""
        if watched.phase.active:
            stamp_ns, kind = watched.phase.newest_ns, self._model_kind
            self._publish(WatchEvent(watched.watch, Change.ENDED, 0.0, stamp_ns, "", None, kind, reason))

    def _publish(self, event: WatchEvent) -> None:
        self._events += 1
        try:
            self._emit(event)
        except Exception as error:
            self._failures += 1
            self._log.report("events", f"an event was not published: {type(error).__name__}: {error}")

    def _drop_round(self) -> None:
        self._round = None
        self._slots.end_question()

    def _fail(self, error: Exception) -> None:
        """Log an error, free the device's memory and pause; frames and questions are not affected."""
        self._failures += 1
        is_oom = isinstance(error, torch.OutOfMemoryError)
        why = f"the device ran out of memory: {error}" if is_oom else traceback.format_exc()
        self._log.report("watches", f"no watch is checked for {RETRY_S:.0f} s, since a check failed: {why}")
        self._drop_round()
        self._slots.clear()
        self._paused_until = self._now() + RETRY_S
        self._is_suspended = True
        for watched in self._watched.values():
            watched.problem = f"a check failed: {type(error).__name__}: {one_line(str(error))}"


def _note_problem(watching: Iterable[_Watched], error: NoSlot) -> None:
    for watched in watching:
        watched.problem = str(error)


def _status(watched: _Watched) -> WatchStatus:
    found = watched.strongest
    view = View((), 0, NO_SLOT) if found is None else found[1]
    return WatchStatus(
        watch=watched.watch,
        active=watched.phase.active,
        checks=watched.checks,
        missed=watched.missed,
        probability=view.probability,
        answered=view.answer.yes + view.answer.no,
        stamp_ns=view.stamp_ns,
        problem=watched.problem or watched.late,
    )
