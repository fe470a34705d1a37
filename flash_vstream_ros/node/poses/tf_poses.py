"""Poses from tf, at the stamps of frames."""

from __future__ import annotations

from collections import Counter

from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.pose import BadPose, MaybePose, Pose, UnknownPose, checked_pose
from flash_vstream_ros.ros import Node
from flash_vstream_ros.ros.transforms import NoTransform, Transforms

from .pose_config import PoseConfig
from .pose_history import NotYet, discontinuity


class TfPoses:
    """Looks up the camera's frame, or `config.robot_frame`, in `config.fixed_frame`. Raises MissingTransforms."""

    def __init__(self, node: Node, config: PoseConfig, log: ThrottledLog) -> None:
        self.config = config
        self.refused: Counter[str] = Counter()
        self._log = log
        self._transforms = Transforms(node)
        self._last: dict[str, Pose] = {}  # by frame

    def at(self, frame_id: str, stamp_ns: int) -> MaybePose:
        """The pose of the frame at a stamp. Raises NotYet."""
        config, frame = self.config, self.config.robot_frame or frame_id.removeprefix("/")
        if not frame:
            return UnknownPose("no_frame_id")
        try:
            position, orientation = self._transforms.look_up(config.fixed_frame, frame, stamp_ns)
            pose = checked_pose(Pose(position, orientation, config.fixed_frame, config.map_id, stamp_ns))
        except NoTransform as error:
            self._log.report(f"pose/{error.reason}", f"no pose of {frame} in {config.fixed_frame}: {error}")
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
