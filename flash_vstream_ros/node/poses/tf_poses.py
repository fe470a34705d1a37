"""Poses from tf, at the stamps of frames."""

from __future__ import annotations

from collections import Counter
from typing import Any

from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.pose import BadPose, MaybePose, Pose, UnknownPose, Vector, checked_pose
from flash_vstream_ros.ros import Node
from flash_vstream_ros.ros.transforms import NoTransform, Transforms

from .pose_config import PoseConfig
from .pose_history import NotYet, discontinuity
from .transform_history import Transform, TransformHistory


class TfPoses:
    """Looks up the camera's frame, or `config.robot_frame`, in `config.fixed_frame`. Raises MissingTransforms."""

    def __init__(self, node: Node, config: PoseConfig, log: ThrottledLog) -> None:
        self.refused: Counter[str] = Counter()
        self._config = config
        self._log = log
        self._history = TransformHistory(config.map_id)
        self._transforms = Transforms(node, self._receive)
        self._last: dict[str, Pose] = {}  # by frame

    @property
    def config(self) -> PoseConfig:
        """The parameters; transforms that were received before a change of the map id keep the earlier one."""
        return self._config

    @config.setter
    def config(self, config: PoseConfig) -> None:
        self._config = config
        self._history.map_id = config.map_id

    def at(self, frame_id: str, stamp_ns: int) -> MaybePose:
        """The pose of the frame at a stamp. Raises NotYet."""
        fixed, frame = self.config.fixed_frame, self.config.robot_frame or frame_id.removeprefix("/")
        if not frame:
            return UnknownPose("no_frame_id")

        def locate(other: str) -> Vector:
            return self._transforms.look_up(other, frame, stamp_ns)[0]

        try:
            position, orientation = self._transforms.look_up(fixed, frame, stamp_ns)
            map_id, sentence = self._history.check(fixed, frame, stamp_ns, locate)
            if sentence:
                self._log.report("pose/jump", sentence)
                return UnknownPose("jump")
            pose = checked_pose(Pose(position, orientation, fixed, map_id, stamp_ns))
        except NoTransform as error:
            self._log.report(f"pose/{error.reason}", f"no pose of {frame} in {fixed}: {error}")
            raise NotYet(error.reason) from error
        except BadPose as error:
            self.refused[error.reason] += 1
            self._log.report(f"pose/{error.reason}", f"refused the transform of {frame}: {error}")
            return UnknownPose(error.reason)
        before = self._last.get(frame)
        if before is not None and stamp_ns > before.stamp_ns and (sentence := discontinuity(before, pose)):
            self._log.report("pose/jump", sentence)
        self._last[frame] = pose
        return pose

    def poll(self) -> None:
        """Does nothing: tf discovers its publishers itself."""

    def close(self) -> None:
        """Stop listening to tf."""
        self._transforms.close()

    def _receive(self, message: Any, is_static: bool) -> None:
        """Note a geometry_msgs/TransformStamped that tf2 gets."""
        p, q = message.transform.translation, message.transform.rotation
        stamp, names = message.header.stamp, (message.header.frame_id, message.child_frame_id)
        parent, child = (name.removeprefix("/") for name in names)
        transform = Transform(stamp.sec * 10**9 + stamp.nanosec, parent, child, (p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
        self._history.add(transform, is_static)
