"""Time as one camera's stamps tell it: going on, late, or set back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

# What is only one or two frames behind the others came late, however far behind.
FRAMES_OF_A_JUMP = 3


class JumpBack(str, Enum):
    """What becomes of a camera's frames after its time jumped back: the choices of time.on_jump_back."""

    IGNORE = "ignore"  # they are dropped until their stamps are newer than all before
    RESET = "reset"  # what the camera has shown is forgotten, and its memory starts anew
    FORK = "fork"  # the memory keeps what it holds and goes on behind it


class Stamp(Enum):
    """What a stamp says about time."""

    NEWER = auto()
    LEAP = auto()  # newer, but far ahead of the one before: the camera paused, or its clock was set forward
    ZERO = auto()  # the driver does not set stamps
    LATE = auto()  # not newer than one before
    JUMP = auto()  # time has jumped back for certain: a bag looped, or a clock was set back
    RETURN = auto()  # time is back from a leap that a single frame had made


@dataclass(frozen=True)
class _Run:
    """Stamps behind the newest one that may be those of a clock that was set back."""

    first_ns: int
    last_ns: int
    frames: int


class StampWatch:
    """Judges the stamps of one camera, in order of arrival. Not thread safe.

    Stamps jump back when at least three in a row, rising over `jump_ns` or more, begin more than `jump_ns` behind the
    newest one, and none of the frames between them goes on from there. So a late frame is no jump, nor is a second
    publisher on the topic whose stamps differ, as long as each of the two is heard once in `jump_ns`.

    A stamp more than `leap_ns` ahead of the one before is a leap. Where no more than one frame that was `kept` since
    made it, and the stamps go on from where they were before, that frame was wrong and time has not jumped.
    `follows`: after a jump the new stamps are the ones that count; else they are late until they catch up.
    """

    def __init__(self, jump_ns: int = 2_000_000_000, leap_ns: int = 4_000_000_000, *, follows: bool = False) -> None:
        self.newest_ns = 0
        self.jumps_back = 0
        self.jumps_forward = 0
        self.jumped_ns = 0  # how far the last leap, jump or return went
        self._jump_ns = jump_ns
        self.leap_ns = leap_ns
        self._follows = follows
        self._run: _Run | None = None
        self._told = False  # of the run: that it is a jump
        self._before_leap_ns = 0
        self._kept_since_leap = 0

    def judge(self, stamp_ns: int) -> Stamp:
        """`newest_ns` goes on with NEWER and LEAP, back with RETURN, and back with JUMP where that is followed."""
        if stamp_ns <= 0:
            return Stamp.ZERO
        if stamp_ns > self.newest_ns:
            return self._go_on(stamp_ns)
        self._suspect(stamp_ns)
        run = self._run
        if run is None or self._told or run.frames < FRAMES_OF_A_JUMP or run.last_ns - run.first_ns < self._jump_ns:
            return Stamp.LATE
        self.jumped_ns = self.newest_ns - stamp_ns
        if run.first_ns > self._before_leap_ns > 0 and self._kept_since_leap <= 1:
            self._start_at(stamp_ns)
            return Stamp.RETURN
        self.jumps_back += 1
        if self._follows:
            self._start_at(stamp_ns)
        self._told = not self._follows
        return Stamp.JUMP

    def restart(self) -> None:
        """The next stamp may be any; what was counted stays."""
        self._start_at(0)

    def kept(self) -> None:
        """The frame just judged goes to the model."""
        self._kept_since_leap += 1

    def _go_on(self, stamp_ns: int) -> Stamp:
        before_ns, self.newest_ns, self._run = self.newest_ns, stamp_ns, None
        if not before_ns or stamp_ns - before_ns <= self.leap_ns:
            return Stamp.NEWER
        self._before_leap_ns, self._kept_since_leap = before_ns, 0
        self.jumps_forward += 1
        self.jumped_ns = stamp_ns - before_ns
        return Stamp.LEAP

    def _start_at(self, stamp_ns: int) -> None:
        self.newest_ns, self._run, self._before_leap_ns = stamp_ns, None, 0

    def _suspect(self, stamp_ns: int) -> None:
        """Let a stamp that is not newer lengthen the run, begin another one, or end it."""
        run, behind_ns = self._run, self.newest_ns - stamp_ns
        if run is not None and run.first_ns <= stamp_ns <= run.last_ns:
            return
        if run is not None and stamp_ns > run.last_ns and stamp_ns - run.last_ns <= max(behind_ns, self._jump_ns):
            self._run = _Run(run.first_ns, stamp_ns, run.frames + 1)
            return
        self._run = _Run(stamp_ns, stamp_ns, 1) if behind_ns > self._jump_ns else None
        self._told = False


def stamp_trouble(stamp: Stamp, jumped_ns: int, on_jump_back: JumpBack) -> str:
    """What to say about a stamp, "" where all is well. `jumped_ns`: how far time went."""
    far = f"{jumped_ns / 1e9:.1f} s"
    if stamp is Stamp.ZERO:
        return "frame dropped: its stamp is zero; set header.stamp in the camera driver"
    if stamp is Stamp.LATE:
        return (
            "frame dropped: its stamp is not newer than the one before; did it come late, or do two publishers share"
            " the topic?"
        )
    if stamp is Stamp.LEAP:
        return f"its stamps went ahead by {far} at once: it paused, or its clock was set forward"
    if stamp is Stamp.RETURN:
        return f"a single stamp was {far} ahead of the others; it is left behind"
    if stamp is Stamp.JUMP:
        return f"its stamps jumped back by {far}: a bag looped, or a clock was set back; {_AFTER_A_JUMP[on_jump_back]}"
    return ""


_AFTER_A_JUMP = {
    JumpBack.IGNORE: "its frames are dropped until they are newer than all before (time.on_jump_back: ignore)",
    JumpBack.RESET: "what it showed is forgotten and its memory starts anew (time.on_jump_back: reset)",
    JumpBack.FORK: "its memory keeps what it holds and goes on behind it (time.on_jump_back: fork)",
}
