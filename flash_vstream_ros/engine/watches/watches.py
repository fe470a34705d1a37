"""Checks watches on the newest slots, in units of at most one short pass of the model, while nothing else waits."""

from __future__ import annotations

import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import torch

from flash_vstream_ros.engine.answering.background_budget import BackgroundBudget
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.log_text import one_line
from flash_vstream_ros.engine.newest_frames import MAX_AGE_SLOTS, Age, NewestFrames
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.spans import SECOND_NS

from .hysteresis import Change, Phase, step
from .slot_questions import Newest, NoSlot, SlotQuestions
from .spent_time import SpentTime
from .watch import BadWatch, Watch, WatchConfig, WatchesStatus, WatchEvent, problem_of_watch
from .watch_file import WatchFile, WatchFileError
from .watch_state import WatchState

RETRY_S = 30.0  # pause after a failure
NOTE_S = 1.0  # between two looks for checks that wait


@dataclass
class _Round:
    """The watches that are due together, and those that have to ask about each camera's newest slots."""

    due: list[WatchState]
    asking: deque[tuple[str, deque[WatchState]]]
    ready: float  # time at which its next unit may run [s]
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
        frames: NewestFrames | None = None,
    ) -> None:
        self.config = config
        self._memory = context.memory
        self._model_kind = context.model.kind
        self._log = context.log
        self._cameras = tuple(cameras)
        self._emit = emit
        self._now = now
        self._slots = SlotQuestions(context, chunk_tokens, frames)
        self._budget = BackgroundBudget(now)
        self._spent = SpentTime(now)
        self._file = WatchFile(config.path) if config.path else None
        self._watched: dict[str, WatchState] = {}
        self._round: _Round | None = None
        self._unseen_since: dict[str, float] = {}  # by camera without a slot: the first check that found none
        self._revision = self._memory.revision
        self._paused_until = self._noted = -math.inf
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
                self._watched[watch.id] = WatchState(watch, self._now())
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
        self._watched[watch.id] = WatchState(watch, self._now())
        return self._write()

    def remove(self, watch_id: str) -> Future[None] | None:
        """Remove a watch; if it is active, it ends. Raises BadWatch. Returns the write of the file as `add` does."""
        watched = self._watched.pop(watch_id, None)
        if watched is None:
            raise BadWatch(f"there is no watch with the id {one_line(watch_id)!r}; list the watches")
        self._missed += self._periods_late(watched)
        self._drop_round()
        self._end(watched, "removed")
        return self._write()

    @property
    def status(self) -> WatchesStatus:
        share, late = self.config.device_share, [self._periods_late(watched) for watched in self._watched.values()]
        watches = tuple(each.status(periods, share) for each, periods in zip(self._watched.values(), late, strict=True))
        return WatchesStatus(watches, self._spent.share, self._events, self._failures, self._missed + sum(late))

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
        for watched in self._watched.values():
            periods = self._periods_late(watched)
            watched.missed += periods
            self._missed += periods
        self._is_suspended = True

    def note_waiting(self) -> bool:
        """Log which watches wait for a check that is due, at most every NOTE_S. Returns False if it did not look.

        For times in which the worker has no time for `check`.
        """
        now = self._now()
        if not self._watched or now < max(self._noted + NOTE_S, self._paused_until):
            return False
        self._noted = now
        self._continue(now)
        for watched in self._watched.values():
            if sentence := watched.waiting(self._periods_late(watched), self.config.device_share):
                self._log_problem(watched, sentence)
        return True

    def check(self) -> float | None:
        """Run one unit of work: at most one pass of the model over a chunk of a prompt.

        Returns the time [s] after which to call again, 0 if there may be more to do; None if there is nothing to check.
        """
        if not self._watched:
            return None
        if self._memory.revision != self._revision:
            self._revision = self._memory.revision
            self._drop_round()
            self._slots.clear()
        now = self._now()
        if self._paused_until > now:
            return self._paused_until - now
        self._continue(now)
        self._drop_old_round(now)
        if (wait_s := self._wait_s(now)) > 0:
            self.note_waiting()
            return min(wait_s, NOTE_S)
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
        if self._round is not None:
            self._round.ready = self._now() + self._budget.wait_s(self.config.device_share)
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

    def _continue(self, now: float) -> None:
        """End a suspension: what was due meanwhile is due now."""
        if self._is_suspended:
            self._is_suspended = False
            for watched in self._watched.values():
                watched.due = max(watched.due, now)

    def _wait_s(self, now: float) -> float:
        """Time until a check may start or go on [s]; 0 or less if it may now."""
        share = self.config.device_share
        if not share:
            return math.inf
        wait_s = self._budget.wait_s(share)
        if self._round is None:
            wait_s = max(wait_s, min(watched.due for watched in self._watched.values()) - now)
        return wait_s

    def _periods_late(self, watched: WatchState) -> int:
        return 0 if self._is_suspended else watched.periods_late(self._now())

    def _log_problem(self, watched: WatchState, sentence: str) -> None:
        self._log.report(f"watch {watched.watch.id}", f"watch {watched.watch.id}: {sentence}")

    def _write(self) -> Future[None] | None:
        if self._file is None:
            return None
        return self._file.write([watched.watch for watched in self._watched.values()])

    def _begin_round(self, now: float) -> None:
        """Collect the watches that are due, and what they have to ask."""
        due = [watched for watched in self._watched.values() if watched.due <= now]
        asking = deque[tuple[str, deque[WatchState]]]()
        for camera in self._cameras:
            watching = [each for each in due if not each.watch.cameras or camera in each.watch.cameras]
            newest, unseen = self._newest(camera, watching), self._unseen(camera, now)
            group = deque[WatchState]()
            for watched in watching:
                view = watched.views.get(camera)
                if unseen is not None and view is None:
                    watched.unseen[camera] = unseen
                else:
                    watched.unseen.pop(camera, None)
                if newest is None:
                    if view is not None:
                        watched.views[camera] = view._replace(age=self._slots.age(camera, view.stamp_ns))
                elif view is not None and view.slots == newest.slots:
                    watched.views[camera] = view._replace(stamp_ns=newest.stamp_ns, age=newest.age)
                else:
                    group.append(watched)
            if group:
                asking.append((camera, group))
        self._round = _Round(due, asking, now)
        if not asking:
            self._finish_round(self._round)

    def _newest(self, camera: str, watching: Sequence[WatchState]) -> Newest | None:
        """The newest slots of `camera`; None if they cannot be asked about, or if nothing watches them."""
        try:
            return self._slots.newest(camera, self.config.slots) if watching else None
        except NoSlot as error:
            _note_problem(watching, error)
            return None

    def _unseen(self, camera: str, now: float) -> Age | None:
        """How long the memory has had no slot of `camera`; None if it has one."""
        if self._memory.newest_of(camera) is not None:
            self._unseen_since.pop(camera, None)
            return None
        return Age(now - self._unseen_since.setdefault(camera, now), self._max_age_s)

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
            self._missed += watched.plan(now)
            if sentence := watched.late or watched.stopped:
                self._log_problem(watched, sentence)
            self._update(watched)

    def _update(self, watched: WatchState) -> None:
        """Adopt the probability found by the cameras that have current frames."""
        if not watched.current:
            watched.phase = watched.phase.interrupted
            return
        watched.checks += 1
        if watched.is_held or watched.strongest is None:
            return
        camera, view = watched.strongest
        stamp_ns = max(each.stamp_ns for each in watched.current.values())
        watched.phase, change = step(watched.phase, watched.watch.thresholds, stamp_ns, view.probability)
        if change is not None:
            entry = self._slots.entry(camera, view)
            self._publish(
                WatchEvent(watched.watch, change, view.probability, view.stamp_ns, camera, entry, self._model_kind)
            )

    def _end(self, watched: WatchState, reason: str) -> None:
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

    def _drop_old_round(self, now: float) -> None:
        """Drop a round whose slots have become old, because the worker was busy or suspended in between."""
        if self._round is not None and now - self._round.ready > self._max_age_s:
            self._drop_round()

    @property
    def _max_age_s(self) -> float:
        return MAX_AGE_SLOTS * self._memory.config.slot_period_ns / SECOND_NS

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
        self.suspend()
        self._paused_until = self._now() + RETRY_S
        for watched in self._watched.values():
            watched.problem = f"a check failed: {type(error).__name__}: {one_line(str(error))}"


def _note_problem(watching: Iterable[WatchState], error: NoSlot) -> None:
    for watched in watching:
        watched.problem = str(error)
