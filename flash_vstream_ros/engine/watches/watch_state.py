"""The state of one watch: what was found last, when the next check is due, and how late it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from flash_vstream_ros.engine.newest_frames import Age

from .hysteresis import Phase
from .slot_questions import NO_SLOT, View
from .watch import Watch, WatchStatus

REMEDY = (
    "the device is busy, or watch.device_share is used up; make the period longer, watch for less, or raise that share"
)
CONSEQUENCE = "by it, no event begins or ends; check its publisher and ~/pause"


@dataclass
class WatchState:
    """A watch and its state. Owned by `Watches`."""

    watch: Watch
    due: float  # on the steady clock [s]
    phase: Phase = field(default_factory=Phase)
    views: dict[str, View] = field(default_factory=dict)  # of the newest slots of each camera
    unseen: dict[str, Age] = field(default_factory=dict)  # how long each camera has had no slot in the memory
    checks: int = 0
    missed: int = 0  # up to the last check; `periods_late` are those since
    problem: str = ""  # why it cannot be checked
    late: str = ""  # why the last check was late; "" if it was not

    @property
    def current(self) -> dict[str, View]:
        """The views of cameras whose newest frame was not old at the last check. Only they begin or end an event."""
        return {camera: view for camera, view in self.views.items() if not view.age.is_old}

    @property
    def is_held(self) -> bool:
        """Returns True if it is active by what a camera saw that has stopped: nobody knows if that has ended."""
        old = (view for view in self.views.values() if view.age.is_old)
        return self.phase.active and any(view.probability >= self.watch.off for view in old)

    @property
    def strongest(self) -> tuple[str, View] | None:
        """The camera with the highest probability, and what was found there; None before the first check.

        Cameras with old frames count only while they hold the watch active, or if there is no other.
        """
        views = self.views if self.is_held else self.current or self.views
        return max(views.items(), key=lambda item: item[1].probability, default=None)

    @property
    def stopped(self) -> str:
        """Which cameras had no current frame at the last check; "" if all had."""
        stopped = [_stopped(camera, view.age) for camera, view in self.views.items() if view.age.is_old]
        return "; ".join(stopped + [_unseen(camera, age) for camera, age in self.unseen.items() if age.is_old])

    def periods_late(self, now: float) -> int:
        """Checks left out since the one that is due: whole periods that it has waited."""
        return max(0, int((now - self.due) / self.watch.period_s))

    def waiting(self, periods: int, device_share: float) -> str:
        """Why the check that is due has waited for `periods`; "" if it has not waited for one."""
        if not periods:
            return ""
        if not device_share:
            return f"it is not checked, {periods} periods by now: watch.device_share is 0; raise it"
        period_s = self.watch.period_s
        return f"it cannot keep its period of {period_s:g} s, its check is {periods} periods late: {REMEDY}"

    def plan(self, now: float) -> int:
        """Set the time of the next check: a multiple of the period, so that equal periods are due together.

        Returns the number of checks missed since the last one.
        """
        period_s, missed = self.watch.period_s, self.periods_late(now)
        self.missed += missed
        self.due = (math.floor(now / period_s) + 1) * period_s
        self.late = ""
        if missed:
            self.late = (
                f"it cannot keep its period of {period_s:g} s, the last check was {missed} periods late: {REMEDY}"
            )
        return missed

    def status(self, periods: int, device_share: float) -> WatchStatus:
        """The status while the check that is due has waited for `periods`."""
        found, late = self.strongest, self.waiting(periods, device_share) or self.late
        view = View((), 0, NO_SLOT) if found is None else found[1]
        return WatchStatus(
            watch=self.watch,
            active=self.phase.active,
            checks=self.checks,
            missed=self.missed + periods,
            probability=view.probability,
            answered=view.answer.yes + view.answer.no,
            stamp_ns=view.stamp_ns,
            problem="; ".join(filter(None, (self.problem, late, self.stopped))),
        )


def _stopped(camera: str, age: Age) -> str:
    since = (
        f"its newest frame was {age.seconds:.0f} s old at the last check, more than {age.limit:g} s"
        if math.isfinite(age.seconds)
        else "it has sent no frame since the memory was restored, or since newer frames were forgotten"
    )
    return f"camera {camera} has stopped: {since}; {CONSEQUENCE}"


def _unseen(camera: str, age: Age) -> str:
    return f"the memory has had no frame of camera {camera} for {age.seconds:.0f} s; {CONSEQUENCE}"
