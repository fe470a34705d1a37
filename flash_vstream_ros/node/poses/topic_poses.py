"""Poses from a topic, interpolated at the stamps of frames."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.pose import BadPose, MaybePose
from flash_vstream_ros.node.callback_guard import never_raises
from flash_vstream_ros.ros import (
    HistoryPolicy,
    MutuallyExclusiveCallbackGroup,
    Node,
    QoSProfile,
    ReliabilityPolicy,
    load_interface,
)

from .pose_config import PoseConfig
from .pose_history import PoseHistory
from .pose_messages import TYPES, pose_of

# Best effort is compatible with every publisher; a lost pose lies between two others.
POSE_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
DISCOVERY_PERIOD_S = 0.5  # between two checks of the publishers' type


class TopicPoses:
    """Subscribes to `config.topic` with the type of its publisher. Thread safe. It calls `received` after each."""

    def __init__(self, node: Node, config: PoseConfig, log: ThrottledLog, received: Callable[[], None]) -> None:
        self.config = config
        self.refused: Counter[str] = Counter()
        self._node = node
        self._log = log
        self._received = received
        self._topic = str(node.resolve_topic_name(config.topic))
        self._lock = threading.Lock()  # guards the history
        self._history = PoseHistory()
        self._type = ""
        self._subscription: Any = None
        self._checked_s = float("-inf")

    def at(self, frame_id: str, stamp_ns: int) -> MaybePose:
        """The robot's pose at a stamp. Raises NotYet."""
        with self._lock:
            return self._history.at(stamp_ns)

    def poll(self) -> None:
        """Subscribe once a publisher of a known type is there, and again if it is replaced by one of another type."""
        if time.monotonic() < self._checked_s + DISCOVERY_PERIOD_S:
            return
        self._checked_s = time.monotonic()
        found = [str(each.topic_type) for each in self._node.get_publishers_info_by_topic(self._topic)]
        usable = [name for name in found if name in TYPES]
        if found and not usable:
            self._log.report(
                "pose/type", f"poses on {self._topic} have the type {found[0]}; usable are {', '.join(TYPES)}"
            )
        if usable and self._type not in usable:
            self._subscribe(usable[0])

    def close(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def _subscribe(self, type_name: str) -> None:
        try:
            kind = load_interface(type_name)
        except (ImportError, LookupError, AttributeError) as error:
            package = type_name.partition("/")[0]
            self._log.report("pose/type", f"poses on {self._topic} need {package}, which is missing: {error}")
            return
        self.close()
        self._type = type_name
        self._subscription = self._node.create_subscription(
            kind, self._topic, self._receive, POSE_QOS, callback_group=MutuallyExclusiveCallbackGroup()
        )

    @never_raises
    def _receive(self, message: Any) -> None:
        try:
            pose = pose_of(message, self.config.fixed_frame, self.config.map_id)
            with self._lock:
                sentence = self._history.add(pose)
        except BadPose as error:
            self.refused[error.reason] += 1
            self._log.report(f"pose/{error.reason}", f"refused a pose on {self._topic}: {error}")
            return
        if sentence:
            self._log.report("pose/jump", sentence)
        self._received()
