"""Texts of answers: a scene, an age, a count and the summary of a patrol."""

from __future__ import annotations

from collections.abc import Sequence

from flash_vstream_ros.models.minutes import round_minutes

from .past import seen_since, seen_until
from .world import Observation, Visit


def patrol_summary(visits: Sequence[Visit], since: float, until: float) -> str:
    """Summary of the rooms and things that were in view between two times [s], in order of first sight."""
    recent = seen_since(seen_until(visits, until), since)
    observations = [observation for visit in recent for observation in visit.observations]
    things = dict.fromkeys(f"a {observation.thing.name}" for observation in observations if observation.thing)
    saw = [*things, *(["a person"] if any(observation.person for observation in observations) else [])]
    rooms = [f"the {room}" for room in dict.fromkeys(visit.room for visit in recent)]
    was = f"I was in {_listed(rooms)}. " if rooms else ""
    return f"{was}I saw {_listed(saw)}."


def scene(observation: Observation) -> str:
    """Describe an observation: "a red ball and a person", "nothing"."""
    return _listed(
        [*([f"a {observation.thing.name}"] if observation.thing else []), *(["a person"] if observation.person else [])]
    )


def ago(seconds: float) -> str:
    """A duration as "7 minutes ago", rounded to MINUTES; "just now" within the first minute."""
    minutes = round_minutes(seconds)
    return f"{number(minutes, 'minute')} ago" if minutes else "just now"


def number(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]])) or "nothing"
