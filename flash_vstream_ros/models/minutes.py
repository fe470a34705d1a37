"""Rounds durations to common numbers of minutes."""

from __future__ import annotations

MINUTES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 150, 180)
JUST_NOW_S = 60.0


def round_minutes(seconds: float) -> int:
    """The nearest of MINUTES, or the nearest whole hour beyond them [min]; 0 within the first minute."""
    minutes = seconds / 60
    if seconds < JUST_NOW_S:
        return 0
    if minutes > MINUTES[-1]:
        return 60 * max(round(minutes / 60), MINUTES[-1] // 60)
    return min(MINUTES, key=lambda step: abs(step - minutes))
