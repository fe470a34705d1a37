"""Received poses of the last seconds, and the pose at a stamp between two of them."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from flash_vstream_ros.memory.pose import BadPose, MaybePose, Pose, UnknownPose, distance_m, interpolated

SECOND_NS = 1_000_000_000
LENGTH_NS = 30 * SECOND_NS
MAX_POSES = 4096
MAX_GAP_NS = SECOND_NS  # between two poses that are interpolated
BACK_NS = SECOND_NS  # stamps that go back further begin a new history, as when a bag is played again
JUMP_M, MAX_SPEED = 0.5, 3.0  # a pose that is further away than JUMP_M + MAX_SPEED [m/s] * time has jumped


class NotYet(LookupError):
    """The pose is not known yet; `reason` counts it if it does not become known in time."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def discontinuity(before: Pose, after: Pose) -> str:
    """A sentence if the two poses do not belong to one movement in one map; "" if they do."""
    if (before.frame_id, before.map_id) != (after.frame_id, after.map_id):
        return f"poses are now in the map {after.map_id!r}; earlier ones keep the map {before.map_id!r}"
    elapsed_s, moved_m = abs(after.stamp_ns - before.stamp_ns) / SECOND_NS, distance_m(before, after)
    if moved_m <= JUMP_M + MAX_SPEED * elapsed_s:
        return ""
    return (
        f"the pose jumped by {moved_m:.1f} m in {elapsed_s:.2f} s, as after a relocalisation or a loop closure: "
        "earlier poses are kept as they are; if the robot is in another map now, set pose.map_id"
    )


class _Received(NamedTuple):
    pose: Pose
    is_continuous: bool  # with the one before


class PoseHistory:
    """Poses ordered by stamp. Not thread safe."""

    def __init__(self) -> None:
        self._received: list[_Received] = []

    def add(self, pose: Pose) -> str:
        """Append a pose. Returns a sentence if it does not continue the earlier ones. Raises BadPose."""
        newest = self._received[-1].pose if self._received else None
        if newest is not None and pose.stamp_ns <= newest.stamp_ns:
            back_ns = newest.stamp_ns - pose.stamp_ns
            if back_ns < BACK_NS:
                raise BadPose("out_of_order", "its stamp is not newer than that of the pose before")
            self._received = [_Received(pose, False)]
            return f"stamps of poses went back by {back_ns / SECOND_NS:.0f} s: the earlier ones are not used any more"
        sentence = discontinuity(newest, pose) if newest is not None else ""
        self._received.append(_Received(pose, not sentence))
        oldest_ns = pose.stamp_ns - LENGTH_NS
        surplus = max(len(self._received) - MAX_POSES, bisect_left(self._received, oldest_ns, key=_stamp))
        del self._received[:surplus]
        return sentence

    def at(self, stamp_ns: int) -> MaybePose:
        """The pose at a stamp. Raises NotYet if later poses may tell it."""
        if not self._received:
            raise NotYet("no_message")
        place = bisect_left(self._received, stamp_ns, key=_stamp)
        if place == len(self._received):
            raise NotYet("late")
        after = self._received[place]
        if after.pose.stamp_ns == stamp_ns:
            return after.pose
        if place == 0:
            return UnknownPose("before_first")
        before = self._received[place - 1].pose
        if not after.is_continuous:
            return UnknownPose("jump")
        if after.pose.stamp_ns - before.stamp_ns > MAX_GAP_NS:
            return UnknownPose("gap")
        return interpolated(before, after.pose, stamp_ns)


def _stamp(received: _Received) -> int:
    return received.pose.stamp_ns
