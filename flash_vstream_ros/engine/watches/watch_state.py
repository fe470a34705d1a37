"""The state of one watch: what was found last, when the next check is due, and how late it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .hysteresis import Phase
from .slot_questions import NO_SLOT, View
from .watch import Watch, WatchStatus

REMEDY = (
    "the device is busy, or watch.device_share is used up; make the period longer, watch for less, or raise that share"
)


@dataclass
class WatchState:
    """A watch and its state. Owned by `Watches`."""

    watch: Watch
    due: float  # on the steady clock [s]
    phase: Phase = field(default_factory=Phase)
    views: dict[str, View] = field(default_factory=dict)  # of the newest slots of each camera
    checks: int = 0
    missed: int = 0  # up to the last check; `periods_late` are those since
    problem: str = ""  # why it cannot be checked
    late: str = ""  # why the last check was late; "" if it was not

    @property
    def strongest(self) -> tuple[str, View] | None:
        """The camera with the highest probability, and what was found there; None before the first check."""
        return max(self.views.items(), key=lambda item: item[1].probability, default=None)

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
        found = self.strongest
        view = View((), 0, NO_SLOT) if found is None else found[1]
        return WatchStatus(
            watch=self.watch,
            active=self.phase.active,
            checks=self.checks,
            missed=self.missed + periods,
            probability=view.probability,
            answered=view.answer.yes + view.answer.no,
            stamp_ns=view.stamp_ns,
            problem=self.problem or self.waiting(periods, device_share) or self.late,
        )
