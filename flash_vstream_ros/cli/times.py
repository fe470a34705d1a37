"""Points in time on the command line: seconds of message time, a clock time, a date, or relative to the newest frame.

| Written as | Means |
|---|---|
| `1732850000` or `12.5` | a stamp: seconds of message time, the header stamps of the images |
| `10:30`, `10:30:05` | the last such moment before the newest frame in the memory, in the local time zone |
| `2026-11-29T10:30` | that moment in the local time zone; with `Z` or `+01:00` in the given one |
| `today`, `yesterday`, `yesterday 12:00` | that day at midnight or at that clock time, by this machine's clock |
| `-5min`, `-1h30min`, `-90s`, `-90` | this long before the newest frame in the memory |
"""

from __future__ import annotations

import re
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

MAX_STAMP_S = 2**31 - 1  # of a builtin_interfaces/Time
DAY_S = 86400.0
YEAR_S = 365 * DAY_S
UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": DAY_S}
# Options whose value may begin with a minus sign.
SIGNED_OPTIONS = ("--since", "--until", "--near")
FORMS = (
    "seconds (12.5), a clock time (10:30), a date (2026-11-29T10:30), a day (yesterday, 'yesterday 12:00') or a time"
    " before the newest frame (-5min)"
)
DAYS_AGO = {"today": 0, "yesterday": 1}
_CLOCK = r"(\d{1,2}):(\d\d)(?::(\d\d(?:\.\d+)?))?"
_PART = r"(\d+(?:\.\d*)?)(s|min|h|d)"


class BadTime(ValueError):
    """A point in time that does not exist on the stream's clock; the message says why."""


@dataclass(frozen=True)
class TimePoint:
    """A point in time as written. `stamp_s` is set if the point is absolute; else the newest frame determines it."""

    word: str
    stamp_s: float | None = None
    before_newest_s: float = 0.0
    clock: tuple[int, int, float] | None = None  # hour, minute, second

    def stamp(self, newest_s: Callable[[], float]) -> float:
        """The stamp [s]. `newest_s` returns the stamp of the newest frame; it is called only if the point is relative.

        Raises BadTime.
        """
        if self.stamp_s is not None:
            return self.stamp_s
        newest = newest_s()
        if self.clock is None:
            return max(newest - self.before_newest_s, 1e-9)  # zero would mean: no limit
        if newest < YEAR_S:
            raise BadTime(
                f"{self.word}: the stamps of this stream count from zero (the newest is {newest:.1f} s), so it has no "
                "clock times; give seconds (12.5) or a time before the newest frame (-5min)"
            )
        return _last_clock_time(self.clock, newest)


NO_LIMIT = TimePoint("0", 0.0)


def time_point(word: str) -> TimePoint:
    """Type of a command-line argument: a point in time. ArgumentTypeError names the accepted forms."""
    for read in (_seconds, _before_newest, _clock_time, _day, _date):
        point = read(word.strip())
        if point is not None:
            return point
    raise ArgumentTypeError(f"{word!r} is no point in time; expected {FORMS}")


def join_negative_values(arguments: Sequence[str]) -> list[str]:
    """Join `--since -5min` to `--since=-5min`, since argparse would take the value for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in SIGNED_OPTIONS and re.match(r"-\.?\d", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def is_date(stamp_s: float) -> bool:
    """Whether a stamp is a date near the present, and no simulated time, which starts at zero."""
    return abs(stamp_s - time.time()) < 10 * YEAR_S


def time_text(stamp_s: float) -> str:
    """A date as local clock time, a simulated time as plain seconds."""
    if is_date(stamp_s):
        return datetime.fromtimestamp(stamp_s).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    return f"{stamp_s:.1f} s"


def short_time_text(stamp_s: float) -> str:
    """`time_text` without year and time zone, for captions."""
    return time_text(stamp_s).partition("-")[2].rpartition(" ")[0] or time_text(stamp_s)


def _seconds(word: str) -> TimePoint | None:
    if not re.fullmatch(r"\+?(\d+(\.\d*)?|\.\d+)(e\+?\d+)?|nan|inf(inity)?", word, re.IGNORECASE | re.ASCII):
        return None
    value = float(word)
    if not value <= MAX_STAMP_S:  # NaN too
        raise ArgumentTypeError(f"{word} is out of range: stamps are seconds from 0 to {MAX_STAMP_S}, not nanoseconds")
    return TimePoint(word, value)


def _before_newest(word: str) -> TimePoint | None:
    if re.fullmatch(r"-(\d+(\.\d*)?|\.\d+)", word, re.ASCII):
        seconds = float(word[1:])
    elif re.fullmatch(f"-({_PART})+", word, re.ASCII):
        seconds = sum(float(number) * UNITS_S[unit] for number, unit in re.findall(_PART, word, re.ASCII))
    else:
        return None
    if seconds > MAX_STAMP_S:
        raise ArgumentTypeError(f"{word} is out of range: stamps reach back {MAX_STAMP_S} s at most")
    return TimePoint(word, before_newest_s=seconds)


def _clock_time(word: str) -> TimePoint | None:
    found = re.fullmatch(_CLOCK, word, re.ASCII)
    if not found:
        return None
    return TimePoint(word, clock=_time_of_day(found))


def _time_of_day(found: re.Match[str]) -> tuple[int, int, float]:
    hour, minute, second = int(found[1]), int(found[2]), float(found[3] or 0)
    if hour > 23 or minute > 59 or second >= 60:
        raise ArgumentTypeError(f"{found[0]} is no time of day; expected 00:00 to 23:59:59")
    return hour, minute, second


def _day(word: str) -> TimePoint | None:
    day, _, clock = word.partition(" ")
    if day not in DAYS_AGO:
        return None
    found = re.fullmatch(_CLOCK, clock.strip() or "0:00", re.ASCII)
    if not found:
        raise ArgumentTypeError(f"{word!r} is no point in time; expected {day} or '{day} 12:00'")
    hour, minute, second = _time_of_day(found)
    midnight = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS_AGO[day])
    return TimePoint(word, (midnight.replace(hour=hour, minute=minute) + timedelta(seconds=second)).timestamp())


def _date(word: str) -> TimePoint | None:
    if not re.match(r"\d{4}-", word, re.ASCII):
        return None
    try:
        # Before Python 3.11 `fromisoformat` does not know Z.
        stamp = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", word)).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ArgumentTypeError(f"{word} is no date: {error}; expected 2026-11-29T10:30") from error
    if not 0 < stamp <= MAX_STAMP_S:
        raise ArgumentTypeError(f"{word} is out of range: stamps lie between 1970 and 2038")
    return TimePoint(word, stamp)


def _last_clock_time(clock: tuple[int, int, float], newest_s: float) -> float:
    """The last moment before `newest_s` at which a local clock shows this time."""
    newest = datetime.fromtimestamp(newest_s)
    hour, minute, second = clock
    at = newest.replace(hour=hour, minute=minute, second=0, microsecond=0) + timedelta(seconds=second)
    if at.timestamp() > newest_s:
        at -= timedelta(days=1)
    return at.timestamp()
