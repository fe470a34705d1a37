"""Checks with the simulator if the pose that a search finds is a place from which the thing can be seen.

Patrols are rendered and encoded as in `bench search`. The poses of their slots come through the node's own history of
poses, from a noisy stream of which some poses are late and some are missing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from flash_vstream_ros.client import MOMENTS, best_place
from flash_vstream_ros.demo.past import past_of, things_known
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.engine.answering.question import Evidence, Question
from flash_vstream_ros.engine.answering.search import search_prompt
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.memory import FlashMemory
from flash_vstream_ros.memory.pose import NO_COVARIANCE, MaybePose, Pose, UnknownPose
from flash_vstream_ros.memory.spans import SECOND_NS
from flash_vstream_ros.models.household_settings import MEMORY, SECOND_LOOK_SHARE
from flash_vstream_ros.models.names import HOUSEHOLD
from flash_vstream_ros.node.conversions import evidence_messages
from flash_vstream_ros.node.poses.pose_history import NotYet, PoseHistory
from flash_vstream_ros.progress import tracked

from .patrol_evaluation import PACE_S, loaded, slots_by_moment
from .prefix_cache import Asker

FIRST_SEED = 830_000
NEAR_M = 1.0  # a pose this near to one from which the thing was visible is right
RATE_HZ, NOISE_M, NOISE_RAD = 10.0, 0.05, 0.02  # of the stream of poses; standard deviations
WAIT_S = 0.2  # the default of pose.max_wait_s
DELAYS_S, DELAY_SHARES = (0.02, 0.08, 0.5), (0.6, 0.35, 0.05)  # of poses; the longest exceeds the wait
MISSING, MISSING_S = 0.02, 1.5  # share of frames without poses around them, and for how long


class Found(NamedTuple):
    """The result of one search for where a thing is."""

    reason: str  # why no moment that is relevant has a pose; "" if one has
    is_near: bool  # the pose is within NEAR_M of one from which the thing was visible
    is_newest_near: bool  # the same of the newest entry with a pose, without a search
    error_m: float  # of the pose that was kept, to the true one at that stamp


def measured_pose(world: World, t: float, rng: np.random.Generator) -> MaybePose:
    """The pose of a frame at `t` [s], as the node knows it when its time to wait is over."""
    delay = float(rng.choice(DELAYS_S, p=DELAY_SHARES))
    missing = rng.random() < MISSING
    history = PoseHistory()
    first = math.floor((t - 2.0) * RATE_HZ)
    for step in range(first, math.floor((t + WAIT_S - delay) * RATE_HZ) + 1):
        stamp = step / RATE_HZ
        if stamp >= 0.0 and not (missing and abs(stamp - t) < MISSING_S):
            history.add(_noisy(world, stamp, rng))
    try:
        return history.at(round(t * SECOND_NS))
    except NotYet as error:
        return UnknownPose(error.reason)


def _noisy(world: World, t: float, rng: np.random.Generator) -> Pose:
    x, y, z, yaw = world.pose(t)
    dx, dy = (rng.standard_normal(2) * NOISE_M).tolist()
    half = (yaw + NOISE_RAD * float(rng.standard_normal())) / 2
    orientation = (0.0, 0.0, math.sin(half), math.cos(half))
    return Pose((x + dx, y + dy, z), orientation, "map", "", round(t * SECOND_NS), NO_COVARIANCE)


def patrol(model: Any, seed: int, minutes: float, pace_s: Sequence[float]) -> list[Found]:
    """Ask where each known thing is, at several moments of one patrol."""
    rng = np.random.default_rng(seed)
    world = World(seed, minutes, pace_s=rng.uniform(min(pace_s), max(pace_s)))
    memory = FlashMemory(MEMORY)
    asker = Asker.of(model, memory, "cached", EngineConfig(second_look=SECOND_LOOK_SHARE))
    found = []
    for now, slots in slots_by_moment(model, world, minutes):
        for slot in slots:
            memory.insert(replace(slot, pose=measured_pose(world, slot.last_ns / SECOND_NS, rng)))
        newest = max(memory.list_entries(), key=lambda entry: (isinstance(entry.pose, Pose), entry.thumbnail_ns))
        for thing in sorted(things_known(past_of(world.visits, now))):
            asked = asker.ask(Question(search_prompt(thing.name), moments=MOMENTS))
            best = _best(asked.answer.evidence)
            places = list(viewpoints(world, thing.name, now))
            pose = best.entry.pose
            known = isinstance(pose, Pose)
            found.append(
                Found(
                    "" if isinstance(pose, Pose) else pose.reason,
                    known and _is_near(pose, places),
                    _is_near(newest.pose, places),
                    _distance_m(pose, world.pose(best.entry.thumbnail_ns / SECOND_NS)) if known else 0.0,
                )
            )
    return found


def _best(evidence: Sequence[Evidence]) -> Evidence:
    """The moment that `flash-vstream-ros where` chooses."""
    messages = evidence_messages(evidence)
    best = best_place(messages)
    return next(one for one, message in zip(evidence, messages, strict=True) if message is best)


def viewpoints(world: World, thing: str, now: float) -> Iterator[Sequence[float]]:
    """Positions of the robot until `now` [s] from which it had the thing in view."""
    for t in np.arange(0.0, now, 1.0):
        if thing in world.truth(t).things:
            yield world.pose(t)


def _is_near(pose: MaybePose, places: Iterable[Sequence[float]]) -> bool:
    return isinstance(pose, Pose) and any(_distance_m(pose, place) <= NEAR_M for place in places)


def _distance_m(pose: MaybePose, place: Sequence[float]) -> float:
    assert isinstance(pose, Pose)
    return math.hypot(pose.position[0] - place[0], pose.position[1] - place[1])


def run(
    model: str = HOUSEHOLD,
    streams: int = 5,
    minutes: float = 40.0,
    seed: int = FIRST_SEED,
    device: str = "auto",
    pace: Sequence[float] = PACE_S,
) -> dict[str, Any]:
    """Search `streams` patrols, with seeds from `seed` on. Raises ModelError."""
    own = loaded(model, device)
    patrols = (patrol(own, number, minutes, tuple(pace)) for number in range(seed, seed + streams))
    found = [each for one in tracked(patrols, "patrols", streams) for each in one]
    settings = {"streams": streams, "minutes": minutes, "pace": [*pace], "seed": seed}
    return {"model": model, **settings, **figures(found)}


def figures(found: Sequence[Found]) -> dict[str, Any]:
    """Number of searches, shares of right poses, and reasons of unknown ones."""
    known = [each for each in found if not each.reason]
    return {
        "searches": len(found),
        "known": len(known),
        "unknown": dict(Counter(each.reason for each in found if each.reason)),
        "near": fmean(each.is_near for each in found) if found else None,
        "near_of_known": fmean(each.is_near for each in known) if known else None,
        "newest_near": fmean(each.is_newest_near for each in found) if found else None,
        "largest_error_m": max((each.error_m for each in known), default=0.0),
    }


def show(result: dict[str, Any]) -> None:
    print(f"{result['searches']} searches for things in {result['streams']} patrols of {result['minutes']:g} minutes")
    print(f"a pose is found in {result['known']}; unknown: {result['unknown'] or 'none'}")
    for name, text in (
        ("near", "of all searches"),
        ("near_of_known", "of those with a known pose"),
        ("newest_near", "of the newest pose instead, without a search"),
    ):
        share = "-" if result[name] is None else f"{100 * result[name]:.1f} %"
        print(f"{share:>8} within {NEAR_M:g} m of a place from which the thing was visible, {text}")
    print(f"largest error of a kept pose: {result['largest_error_m']:.2f} m")
