"""Text from outside in log lines and replies."""

from __future__ import annotations

import pytest

from flash_vstream_ros.engine.log_text import MAX_LINE, MAX_TEXT, log_entry, one_line, printable
from flash_vstream_ros.node import node_log


def test_plain_text_of_any_script_stays_as_it_is() -> None:
    for text in ("", "camera front: frame dropped", "où est la balle? 球在哪里", "tab-free, 100 %"):
        assert one_line(text) == log_entry(text) == text


@pytest.mark.parametrize("char", ["\x00", "\x07", "\x1b", "\r", "\x7f", "\x85", "\u2028", "\u202e", "\ud800"])
def test_control_characters_are_escaped(char: str) -> None:
    for found in (one_line(f"a{char}b"), log_entry(f"a{char}b")):
        assert found.isprintable()
        assert found.startswith("a\\")


def test_a_line_break_cannot_begin_a_log_line() -> None:
    forged = "bad\n[INFO] [1.0] [node]: all is well\n"
    assert one_line(forged) == "bad\\n[INFO] [1.0] [node]: all is well\\n"
    assert log_entry(forged) == "bad\n    [INFO] [1.0] [node]: all is well"


def test_long_text_keeps_its_beginning_and_end() -> None:
    long = "a" * 10_000_000 + "z"
    assert len(one_line(long)) < MAX_LINE + 40
    assert len(log_entry(long)) < MAX_TEXT + 40
    assert one_line(long).startswith("aaa")
    assert one_line(long).endswith("aaz")
    assert "(9999801 characters)" in one_line(long)


def test_a_burst_of_log_lines_is_cut_short_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(node_log.time, "monotonic", lambda: now[0])
    budget = node_log.LineBudget()
    lines = [budget.allowed(f"line {number}") for number in range(node_log.MAX_LINES + 7)]
    assert sum(map(bool, lines)) == node_log.MAX_LINES
    now[0] += node_log.PERIOD_S
    assert budget.allowed("later").startswith("later (7 log lines left out")
    assert budget.allowed("again") == "again"


def test_terminal_output_has_no_control_character_but_line_breaks_and_tabs() -> None:
    assert printable("a ball\n\tred \x1b[2Jé\r\x07 今") == "a ball\n\tred \\x1b[2Jé\\r\\x07 今"
