"""A part of what was seen: by camera and by stamp."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


class BadSelection(ValueError):
    """A selection that contradicts itself or names what does not exist; the sentence says how."""


@dataclass(frozen=True)
class Selection:
    """What `cameras` (none: all) saw from `since_ns` to `until_ns`, both included [ns]; 0 leaves that end open."""

    cameras: tuple[str, ...] = ()
    since_ns: int = 0
    until_ns: int = 0

    @property
    def everything(self) -> bool:
        return not (self.cameras or self.since_ns or self.until_ns)


def check_selection(selection: Selection, known: Collection[str]) -> None:
    """Raises BadSelection when it names a camera that is not `known`, or an interval that cannot be."""
    unknown = sorted(set(selection.cameras) - set(known))
    if unknown:
        raise BadSelection(f"unknown camera {', '.join(unknown)}; this node knows {', '.join(known)}")
    if selection.since_ns < 0 or selection.until_ns < 0:
        raise BadSelection("since and until must not be negative")
    if selection.until_ns and selection.since_ns > selection.until_ns:
        raise BadSelection("since lies after until; give an interval of message stamps, or zero to leave an end open")
