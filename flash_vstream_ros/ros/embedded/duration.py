"""A span of time in nanoseconds, as rclpy.duration.Duration."""

from __future__ import annotations

from functools import total_ordering
from typing import Any

NANOSECONDS = 1_000_000_000


@total_ordering
class Duration:
    def __init__(self, *, seconds: float = 0, nanoseconds: int = 0) -> None:
        self._nanoseconds = int(seconds * NANOSECONDS) + int(nanoseconds)
        if not -(1 << 63) <= self._nanoseconds < 1 << 63:
            raise OverflowError("A duration has to fit into 64 bits of nanoseconds")

    @property
    def nanoseconds(self) -> int:
        return self._nanoseconds

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and self._nanoseconds == other._nanoseconds

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Duration):
            return NotImplemented
        return self._nanoseconds < other._nanoseconds

    def __hash__(self) -> int:
        return hash(self._nanoseconds)

    def __repr__(self) -> str:
        return f"Duration(nanoseconds={self._nanoseconds})"

    def to_msg(self) -> Any:
        from .types import message_class

        seconds, nanoseconds = divmod(self._nanoseconds, NANOSECONDS)
        return message_class("builtin_interfaces/msg/Duration")(sec=seconds, nanosec=nanoseconds)

    @classmethod
    def from_msg(cls, msg: Any) -> Duration:
        return cls(nanoseconds=msg.sec * NANOSECONDS + msg.nanosec)
