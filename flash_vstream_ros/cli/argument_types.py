"""Types of command-line arguments, and help texts that commands share.

Each type converts a word to a checked value. Its ArgumentTypeError says what is expected.
"""

from __future__ import annotations

import math
from argparse import ArgumentTypeError

DEVICE_HELP = "auto (CUDA if there is one), cpu or cuda:N (default: auto)"
MODEL_HELP = "hub id or folder, household or tiny-random (default: %(default)s)"
MAX_MOMENTS = 64  # of one srv/Search reply
MAX_DURATION_S = 2**31 - 1  # largest builtin_interfaces/Duration


def text(word: str) -> str:
    """Text for a message, which ROS sends as UTF-8."""
    try:
        word.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ArgumentTypeError("is not valid UTF-8; check the encoding of the terminal or script") from error
    return word


def question(word: str) -> str:
    """A question: text that is not blank."""
    if not text(word).strip():
        raise ArgumentTypeError("the question is empty: ask something")
    return word


def search_text(word: str) -> str:
    """The text of a search, which must not be blank."""
    if not text(word).strip():
        raise ArgumentTypeError("the text is empty: describe what to look for")
    return word


def moments(word: str) -> int:
    """The number of moments that a search returns, 1 to MAX_MOMENTS."""
    number = _whole(word, 1)
    if number > MAX_MOMENTS:
        raise ArgumentTypeError(f"{word}: must lie between 1 and {MAX_MOMENTS}")
    return number


def count(word: str) -> int:
    """A whole number, 1 or more."""
    return _whole(word, 1)


def count_or_zero(word: str) -> int:
    """A whole number, 0 or more."""
    return _whole(word, 0)


def answer_tokens(word: str) -> int:
    """The longest answer [tokens], 0 to 65535; 0: the default."""
    number = _whole(word, 0)
    if number > 65535:
        raise ArgumentTypeError(f"{word}: must lie between 0 and 65535")
    return number


def port(word: str) -> int:
    """A TCP port, 0 to 65535; 0: a free one."""
    number = _whole(word, 0)
    if number > 65535:
        raise ArgumentTypeError(f"{word}: must lie between 0 and 65535")
    return number


def positive(word: str) -> float:
    """A finite number above 0."""
    value = _number(word)
    if not value > 0:
        raise ArgumentTypeError(f"{word}: must be a number above 0")
    return value


def number_or_zero(word: str) -> float:
    """A finite number, 0 or more."""
    value = _number(word)
    if not value >= 0:
        raise ArgumentTypeError(f"{word}: must be 0 or more")
    return value


def duration(word: str) -> float:
    """A duration [s], 0 or more, that fits into a ROS message."""
    value = _number(word)
    if not 0 <= value <= MAX_DURATION_S:
        raise ArgumentTypeError(f"{word}: must be a number of seconds from 0 to {MAX_DURATION_S}")
    return value


def point(word: str) -> tuple[float, float]:
    """A point "X,Y" [m]."""
    parts = word.split(",")
    if len(parts) != 2:
        raise ArgumentTypeError(f"{word}: must be two numbers and a comma, such as 1.5,-2")
    return _number(parts[0]), _number(parts[1])


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ArgumentTypeError(f"{word}: must be a finite number")
    return value


def _whole(word: str, least: int) -> int:
    try:
        value = int(word)
    except ValueError:
        raise ArgumentTypeError(f"{word}: must be a whole number, {least} or more") from None
    if value < least:
        raise ArgumentTypeError(f"{word}: must be {least} or more")
    return value
