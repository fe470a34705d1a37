"""Makes text from outside safe for log lines and replies: bounded, without control characters."""

from __future__ import annotations

MAX_LINE = 200  # characters of one line
MAX_TEXT = 8000  # characters of one log entry
CONTINUATION = "\n    "  # so that no line of a text looks like a log line


def one_line(text: str, max_chars: int = MAX_LINE) -> str:
    """`text` on one line: control characters escaped, its middle cut if it has more than `max_chars` characters."""
    return _printable(_shortened(text, max_chars))


def log_entry(text: str) -> str:
    """`text` as one log entry: like `one_line`, but with line breaks; all lines but the first are indented."""
    return CONTINUATION.join(_printable(line) for line in _shortened(text.rstrip("\n"), MAX_TEXT).split("\n"))


def printable(text: str) -> str:
    """`text` with its control characters escaped, except line breaks and tabs: safe to print on a terminal."""
    return "".join(char if char in "\n\t" else _printable(char) for char in text)


def _shortened(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    return f"{text[:half]}...({len(text) - 2 * half} characters)...{text[-half:]}"


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
