"""Classifies the stamps of one camera: in order, late, or a time jump."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

MAX_STEP_RATIO = 1.5  # a step longer than this many times the one before is a jump forward
JUMP_FRAMES = 3  # consecutive older stamps that confirm a jump back; fewer are late frames


class JumpBack(str, Enum):
    """Reactions to a camera whose stamps jump back: the choices of time.on_jump_back."""

    IGNORE = "ignore"  # drop its frames until their stamps exceed all earlier ones
    RESET = "reset"  # forget everything of the camera and begin anew
    FORK = "fork"  # keep the memory and append to it


class Stamp(Enum):
    """Classes of stamps."""

    NEWER = auto()
    JUMP_FORWARD = auto()  # far ahead of the previous one: the camera paused, or its clock was set forward
    ZERO = auto()  # the driver does not set stamps
    LATE = auto()  # not newer than an earlier one
    JUMP_BACK = auto()  # confirmed: a bag looped, or a clock was set back
    RETURN = auto()  # the stamps continue from before a jump forward that was a single wrong stamp


@dataclass(frozen=True)
class _Run:
    """A run of consecutive stamps older than the newest one: possibly those of a clock that was set back."""

    first_ns: int
    last_ns: int
    frames: int


class StampWatch:
    """Classifies the stamps of one camera, in order of arrival. Not thread safe.

    A jump back is a run of at least three older stamps. The run starts more than `jump_ns` before the newest stamp and
    spans at least `jump_ns`, and no newer stamp arrives within it. So a late frame is not a jump back. Two publishers
    with different clocks on one topic are not either, if each sends a frame every `jump_ns`.

    A jump forward is a step of more than `jump_forward_ns`, unless the previous step was about as long. The jump is
    undone if at most one frame was kept after it, and the stamps then continue from before it: a single stamp was
    wrong.

    With `follow_jump_back`, the watch continues from the new stamps after a jump back. Otherwise stamps are late until
    they exceed the newest one.
    """

    def __init__(
        self, jump_ns: int = 2_000_000_000, jump_forward_ns: int = 4_000_000_000, *, follow_jump_back: bool = False
    ) -> None:
        self.newest_ns = 0
        self.jumps_back = 0
        self.jumps_forward = 0
        self.jumped_ns = 0  # size of the last jump or return
        self._jump_ns = jump_ns
        self.jump_forward_ns = jump_forward_ns
        self._follow_jump_back = follow_jump_back
        self._run: _Run | None = None
        self._is_reported = False  # the run was already classified as a jump
        self._before_jump_forward_ns = 0
        self._kept_since_jump_forward = 0
        self._step_ns = 0  # between the two newest stamps

    def classify(self, stamp_ns: int) -> Stamp:
        """Classify the next stamp. All but ZERO and LATE update `newest_ns`; JUMP_BACK only with `follow_jump_back`."""
        if stamp_ns <= 0:
            return Stamp.ZERO
        if stamp_ns > self.newest_ns:
            return self._advance(stamp_ns)
        self._track_older(stamp_ns)
        run = self._run
        if run is None or self._is_reported or run.frames < JUMP_FRAMES or run.last_ns - run.first_ns < self._jump_ns:
            return Stamp.LATE
        self.jumped_ns = self.newest_ns - stamp_ns
        if run.first_ns > self._before_jump_forward_ns > 0 and self._kept_since_jump_forward <= 1:
            self._start_at(stamp_ns)
            return Stamp.RETURN
        self.jumps_back += 1
        if self._follow_jump_back:
            self._start_at(stamp_ns)
        self._is_reported = not self._follow_jump_back
        return Stamp.JUMP_BACK

    def restart(self, newest_ns: int = 0) -> None:
        """Continue after `newest_ns`; 0: the next stamp may be any. Counts stay."""
        self._start_at(newest_ns)

    def count_kept(self) -> None:
        """Count the frame just classified as kept for the model."""
        self._kept_since_jump_forward += 1

    def _advance(self, stamp_ns: int) -> Stamp:
        before_ns, self.newest_ns, self._run = self.newest_ns, stamp_ns, None
        step_ns, last_step_ns = stamp_ns - before_ns, self._step_ns
        self._step_ns = step_ns if before_ns else 0
        if not before_ns or step_ns <= max(self.jump_forward_ns, MAX_STEP_RATIO * last_step_ns):
            return Stamp.NEWER
        self._before_jump_forward_ns, self._kept_since_jump_forward = before_ns, 0
        self.jumps_forward += 1
        self.jumped_ns = stamp_ns - before_ns
        return Stamp.JUMP_FORWARD

    def _start_at(self, stamp_ns: int) -> None:
        self.newest_ns, self._run, self._before_jump_forward_ns, self._step_ns = stamp_ns, None, 0, 0

    def _track_older(self, stamp_ns: int) -> None:
        """Extend the run by a stamp that is not newer, start another run, or end it."""
        run, behind_ns = self._run, self.newest_ns - stamp_ns
        if run is not None and run.first_ns <= stamp_ns <= run.last_ns:
            return
        if run is not None and stamp_ns > run.last_ns and stamp_ns - run.last_ns <= max(behind_ns, self._jump_ns):
            self._run = _Run(run.first_ns, stamp_ns, run.frames + 1)
            return
        self._run = _Run(stamp_ns, stamp_ns, 1) if behind_ns > self._jump_ns else None
        self._is_reported = False


def stamp_problem(stamp: Stamp, jumped_ns: int, on_jump_back: JumpBack) -> str:
    """The log line about a stamp; "" for a good one. `jumped_ns` is the size of the jump."""
    seconds = f"{jumped_ns / 1e9:.1f} s"
    if stamp is Stamp.ZERO:
        return "dropped frame: its stamp is zero; set header.stamp in the camera driver"
    if stamp is Stamp.LATE:
        return (
            "dropped frame: its stamp is not newer than the previous one; does it arrive late, or do two publishers"
            " share the topic?"
        )
    if stamp is Stamp.JUMP_FORWARD:
        return f"stamps advanced by {seconds} at once: the camera paused, or its clock was set forward"
    if stamp is Stamp.RETURN:
        return f"a single stamp was {seconds} ahead of the others; its frame is not used"
    if stamp is Stamp.JUMP_BACK:
        return f"stamps jumped back by {seconds}: a bag looped, or a clock was set back; {_AFTER_A_JUMP[on_jump_back]}"
    return ""


_AFTER_A_JUMP = {
    JumpBack.IGNORE: "frames are dropped until their stamps exceed all earlier ones (time.on_jump_back: ignore)",
    JumpBack.RESET: "its memory is forgotten and begins anew (time.on_jump_back: reset)",
    JumpBack.FORK: "its memory is kept and continues (time.on_jump_back: fork)",
}
