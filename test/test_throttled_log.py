"""Throttled log: repeats are counted, and its state is bounded."""

from __future__ import annotations

from flash_vstream_ros.engine import throttled_log
from flash_vstream_ros.engine.throttled_log import MAX_KINDS, ThrottledLog


def test_repeats_within_the_period_are_counted(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    now = [100.0]
    monkeypatch.setattr(throttled_log.time, "monotonic", lambda: now[0])
    lines: list[str] = []
    log = ThrottledLog(lines.append, period_s=10.0)
    for second in (0.0, 1.0, 2.0, 11.0):
        now[0] = 100.0 + second
        log.report("kind", f"at {second:g}")
    assert lines == ["at 0", "at 11 (2 similar since the last one)"]
    assert log.newest == "at 11"


def test_old_keys_are_dropped_when_there_are_very_many() -> None:
    lines: list[str] = []
    log = ThrottledLog(lines.append, period_s=1000.0)
    for kind in [*range(3 * MAX_KINDS), 3 * MAX_KINDS - 1]:
        log.report(str(kind), "a problem")
    assert len(lines) == 3 * MAX_KINDS
    assert len(log._logged) == MAX_KINDS
    log.report("0", "a problem")  # forgotten, so it is logged again
    assert len(lines) == 3 * MAX_KINDS + 1
