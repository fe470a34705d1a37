"""Text from outside as it may stand in a log line: bounded, on one line, without control characters."""

from __future__ import annotations

LONGEST = 200  # characters


def one_line(text: str, longest: int = LONGEST) -> str:
    """`text` with control characters escaped, and its middle left out if it is longer than `longest` characters."""
    if len(text) > longest:
        half = longest // 2
        text = f"{text[:half]}...({len(text) - 2 * half} characters)...{text[-half:]}"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
