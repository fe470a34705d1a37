"""The source of poses: finds the pose of each frame within a bounded time, and counts those that stay unknown."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.pose import MaybePose, UnknownPose
from flash_vstream_ros.node.callback_guard import never_raises
from flash_vstream_ros.node.cameras import FrameSink
from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.ros import Clock, ClockType, MutuallyExclusiveCallbackGroup, Node
from flash_vstream_ros.ros.transforms import MissingTransforms

from .pose_config import PoseConfig
from .pose_history import NotYet
from .tf_poses import TfPoses
from .topic_poses import TopicPoses

CHECK_PERIOD_S = 0.05
WARN_PERIOD_S = 30.0  # between two equal warnings
CLOSED = UnknownPose("closed")


class Provider(Protocol):
    """What differs between the sources of poses."""

    config: PoseConfig
    refused: Counter[str]  # poses, by reason

    def at(self, frame_id: str, stamp_ns: int) -> MaybePose:
        """The pose of a frame. Raises NotYet if it may still become known."""

    def poll(self) -> None:
        """Called every CHECK_PERIOD_S."""

    def close(self) -> None: ...


class PoseCounts(NamedTuple):
    """Frames whose pose was looked up, and refused poses, since the source was opened."""

    known: int = 0
    unknown: tuple[tuple[str, int], ...] = ()  # by reason
    refused: tuple[tuple[str, int], ...] = ()
    last_unknown: str = ""  # reason for the newest frame; "": its pose is known


class _Waiting(NamedTuple):
    frame_id: str
    stamp_ns: int
    deadline_s: float  # monotonic
    found: Future[MaybePose]


class PoseSource:
    """Finds poses for the frames of all cameras. Thread safe. After `close` every pose is unknown."""

    def __init__(self, node: Node, config: PoseConfig) -> None:
        self._node = node
        self._node_log = NodeLog(node)
        self._log = ThrottledLog(self._node_log.warning, WARN_PERIOD_S)
        self._lock = threading.Lock()  # guards what follows
        self._waiting: list[_Waiting] = []
        self._known = 0
        self._unknown: Counter[str] = Counter()
        self._last_unknown = ""
        self._is_closed = False
        self._config = config
        self._no_provider = UnknownPose("")  # why there is none
        self._provider: Provider | None = self._opened(config)
        # The steady clock runs even while simulated time stands still.
        self._timer = node.create_timer(
            CHECK_PERIOD_S,
            self._on_timer,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    @property
    def counts(self) -> PoseCounts:
        refused = dict(self._provider.refused) if self._provider is not None else {}
        with self._lock:
            unknown = tuple(sorted(self._unknown.items()))
            return PoseCounts(self._known, unknown, tuple(sorted(refused.items())), self._last_unknown)

    def apply(self, config: PoseConfig) -> None:
        """Adopt the live parameters: the map id and the longest wait."""
        before, self._config = self._config, config
        if self._provider is not None:
            self._provider.config = config
        if before.map_id != config.map_id:
            self._node_log.info(f"poses are now in the map {config.map_id!r}; earlier ones keep {before.map_id!r}")

    def find(self, frame_id: str, stamp_ns: int) -> Future[MaybePose]:
        """The pose of a frame; the future has a result at most `max_wait_s` later, plus CHECK_PERIOD_S."""
        waiting = _Waiting(frame_id, stamp_ns, time.monotonic() + self._config.max_wait_s, Future())
        with self._lock:
            self._waiting.append(waiting)
        self._resolve()
        return waiting.found

    def close(self) -> None:
        """End the search for poses that are not known yet."""
        self._is_closed = True
        self._node.destroy_timer(self._timer)
        if self._provider is not None:
            self._provider.close()
        self._resolve()

    def _opened(self, config: PoseConfig) -> Provider | None:
        try:
            if config.source == "tf":
                return TfPoses(self._node, config, self._log)
            return TopicPoses(self._node, config, self._log, self._resolve)
        except MissingTransforms as error:
            self._no_provider, sentence = UnknownPose("no_tf2"), str(error)
        except Exception as error:  # each runtime raises its own exceptions about an invalid topic
            self._no_provider, sentence = UnknownPose("bad_topic"), f"pose.topic cannot be used: {error}"
        self._node_log.error(f"{sentence}; until then every pose is unknown")
        return None

    @never_raises
    def _on_timer(self) -> None:
        if self._provider is not None and not self._is_closed:
            self._provider.poll()
        self._resolve()

    def _resolve(self) -> None:
        """Finish the searches that have found a pose, and those whose time is over."""
        finished = []
        with self._lock:
            for waiting in list(self._waiting):
                pose = self._found(waiting)
                if pose is None:
                    continue
                self._waiting.remove(waiting)
                self._count(pose)
                finished.append((waiting.found, pose))
        for found, pose in finished:  # outside the lock: a finished future calls back at once
            found.set_result(pose)

    def _found(self, waiting: _Waiting) -> MaybePose | None:
        """The pose of a frame, known or unknown; None while it may still become known."""
        if self._is_closed:
            return CLOSED
        if self._provider is None:
            return self._no_provider
        try:
            return self._provider.at(waiting.frame_id, waiting.stamp_ns)
        except NotYet as error:
            return UnknownPose(error.reason) if time.monotonic() >= waiting.deadline_s else None
        except Exception as error:  # a pose must not stop a camera
            self._log.report("pose/failed", f"a pose cannot be found: {type(error).__name__}: {error}")
            return UnknownPose("failed")

    def _count(self, pose: MaybePose) -> None:
        self._last_unknown = pose.reason if isinstance(pose, UnknownPose) else ""
        if self._last_unknown:
            self._unknown[self._last_unknown] += 1
        else:
            self._known += 1


class PosedFrames:
    """Passes frames on to `sink`, each with a search for its pose, which begins once the frame is due."""

    def __init__(self, sink: FrameSink, poses: PoseSource) -> None:
        self._sink = sink
        self._poses = poses

    def offer(self, frame: Frame) -> None:
        self._sink.offer(replace(frame, find_pose=partial(self._poses.find, frame.frame_id, frame.stamp_ns)))

    def reject(self, camera: str, reason: str, sentence: str) -> None:
        self._sink.reject(camera, reason, sentence)
