"""The ROS 2 node: connects cameras, services, parameters and the life cycle to the engine.

docs/reference/node.md describes its topics and services. The same source runs on rclpy and on the embedded runtime.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence

from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.hooks import EngineHooks
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.engine.status import Status
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.node import conversions, question_services
from flash_vstream_ros.node.answer_parameters import MAX_QUEUE
from flash_vstream_ros.node.callback_guard import never_raises
from flash_vstream_ros.node.cameras import Camera, FrameSink, camera_topics
from flash_vstream_ros.node.diagnostics import Report
from flash_vstream_ros.node.diagnostics_publisher import DiagnosticsPublisher
from flash_vstream_ros.node.duplicates import DuplicateWatch
from flash_vstream_ros.node.image_qos import unused_overrides
from flash_vstream_ros.node.live_parameters import LiveParameters
from flash_vstream_ros.node.managed_node import ManagedNode, error_if_it_raises
from flash_vstream_ros.node.memory_services import MemoryServices
from flash_vstream_ros.node.memory_view import MemoryView
from flash_vstream_ros.node.parameter_files import unused_files
from flash_vstream_ros.node.periodic_timer import PeriodicTimer
from flash_vstream_ros.node.poses.pose_report import pose_report
from flash_vstream_ros.node.poses.pose_source import PosedFrames, PoseSource
from flash_vstream_ros.node.process_hooks import NO_HOOKS, ProcessHooks
from flash_vstream_ros.node.question_action import QuestionAction
from flash_vstream_ros.node.question_services import QuestionServices
from flash_vstream_ros.node.reports import Reports
from flash_vstream_ros.node.search_service import SearchService
from flash_vstream_ros.node.settings import Settings
from flash_vstream_ros.node.summaries import SummaryPublisher
from flash_vstream_ros.node.watch_services import WatchServices
from flash_vstream_ros.process import set_torch_threads
from flash_vstream_ros.ros import LifecycleState, TransitionCallbackReturn
from flash_vstream_ros.ros.interfaces import MemoryStatus
from flash_vstream_ros.ros.stamps import stamp_message

NODE_NAME = "flash_vstream"
# A full garbage collection would visit every object of the model, which takes 0.2 s.
PROGRAM_HOOKS = ProcessHooks(set_torch_threads, loaded=gc.freeze, unloaded=gc.unfreeze)
DUPLICATES_PERIOD_S = 60.0  # between two warnings about the same duplicate
# Threads besides one per camera and one per waiting question or search. Each of these may need one: the question being
# answered, a question and a search answered BUSY, status, memory view, summary, report, diagnostics, cancel, memory
# services, parameters, a transition, get_state.
SPARE_THREADS = 13


def advice(state: State, node: str, starting: bool) -> str:
    """The end of a sentence: how to make a node in `state` answer. `starting` is True while it activates itself."""
    if state is State.FAILED:
        return f"; fix that, then: ros2 lifecycle set {node} configure, or start the node again"
    if state not in (State.UNCONFIGURED, State.INACTIVE):
        return ""
    if starting:
        return "; it is still loading: ask again when ~/status says READY"
    return f"; ros2 lifecycle set {node} {'configure' if state is State.UNCONFIGURED else 'activate'}"


class VStreamNode(LiveParameters, ManagedNode):
    """Feeds camera images to the engine and answers questions about them while it is active.

    `ros_args` are the arguments that ROS was initialised with; unused parameter files among them are reported. A
    program that runs only this node adjusts its process with `process_hooks`.
    """

    camera_type = Camera

    def __init__(self, ros_args: Sequence[str] = (), process_hooks: ProcessHooks = NO_HOOKS) -> None:
        super().__init__(NODE_NAME)
        self._process_hooks = process_hooks
        self._log = ThrottledLog(self.log.error)
        for sentence in unused_files(ros_args, self.get_fully_qualified_name()):
            self.log.warning(sentence)
        self._settings = self.declare_settings(self.log.warning, self._apply_settings)
        self._engine = self._new_engine()
        self._cameras: list[Camera] = []
        self._poses: PoseSource | None = None  # while active
        self._closing = False
        self._duplicates = DuplicateWatch(self, (question_services.SERVICE,))
        self._duplicates_log = ThrottledLog(self.log.warning, DUPLICATES_PERIOD_S)
        self._status = self.create_publisher(MemoryStatus, "~/status", 10)
        self._questions = QuestionServices(self, lambda: self._engine, lambda: self._settings)
        self._question_action = QuestionAction(self, self._questions)
        self._search = SearchService(self, lambda: self._engine, lambda: self._settings)
        self._reports = Reports(self, lambda: self._engine, lambda: self._settings)
        self._summaries = SummaryPublisher(self, lambda: self._engine, self._settings, self._reports)
        self._memory_services = MemoryServices(
            self, lambda: self._engine, lambda: self._settings.pose, self._summaries.withdraw
        )
        self._watches = WatchServices(self, lambda: self._engine)
        self._status_timer = PeriodicTimer(self, self._on_status, self._settings.status_period_s)
        self._memory_view = MemoryView(self, lambda: self._engine, lambda: self._settings)
        self._diagnostics = DiagnosticsPublisher(
            self, self._status_if_configured, self._settings, self._camera_findings, self._other_reports
        )
        self._stop_work()
        self.lock_parameters(False)
        if self._settings.autostart:
            self.autostart()
        else:
            self.log.info(f"waiting for: ros2 lifecycle set {self.get_fully_qualified_name()} configure")

    @property
    def threads_needed(self) -> int:
        """Number of threads for the longest possible request queue. The executor starts a thread when it needs one."""
        return len(self._settings.engine.cameras) + MAX_QUEUE + SPARE_THREADS

    def close(self) -> bool:
        """Stop the engine; unfinished questions are answered CANCELLED. Returns False if a model is still loading."""
        self._closing = True
        ended = self._engine.stop()
        # rclpy destroys a node without waiting for a transition, whose callback still uses the node.
        self.wait_for_transition(1.0)
        return ended

    def destroy_node(self) -> None:
        self._question_action.destroy()
        super().destroy_node()

    @error_if_it_raises
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        with self.no_parameter_changes():
            self.lock_parameters(True)
            self._engine = self._new_engine()
        self._summaries.restart()
        if not self._closing:
            self.log.info(f"loading {self._settings.model['name']}")
            self._engine.start()
            if self._engine.wait_until_loaded():
                return TransitionCallbackReturn.SUCCESS
        return TransitionCallbackReturn.FAILURE if self._closing else TransitionCallbackReturn.ERROR

    @error_if_it_raises
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        settings = self._settings
        sink: FrameSink = self._engine
        if settings.pose.enabled:
            self._poses = PoseSource(self, settings.pose)
            sink = PosedFrames(self._engine, self._poses)
        self._cameras = [
            self.camera_type(
                self,
                name,
                topic,
                sink,
                transport=settings.image_transport,
                reliability=settings.image_reliability,
                decoding=settings.decoding,
            )
            for name, topic in camera_topics(settings.engine.cameras).items()
        ]
        for name in unused_overrides(self):
            self.log.warning(
                f"parameter {name!r} is ignored: it matches no camera topic, or no policy that can be overridden"
            )
        self._summaries.start()
        self._engine.activate()
        return TransitionCallbackReturn.SUCCESS

    @error_if_it_raises
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        return TransitionCallbackReturn.SUCCESS

    @error_if_it_raises
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._drop_engine()

    @error_if_it_raises
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        self._engine.stop()
        return TransitionCallbackReturn.SUCCESS

    @error_if_it_raises
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        if self._engine.state is State.FAILED:  # keep the engine: it reports the reason until the next configure
            self.lock_parameters(False)
            return TransitionCallbackReturn.SUCCESS
        return self._drop_engine()

    def _apply_settings(self, settings: Settings) -> None:
        self._settings = settings
        if self.parameters_locked:
            self._engine.reconfigure(settings.engine)
        elif self._engine.state is State.UNCONFIGURED:
            self._engine = self._new_engine()
        if (poses := self._poses) is not None:
            poses.apply(settings.pose)
        self._status_timer.set_period(settings.status_period_s)
        self._memory_view.apply(settings)
        self._summaries.apply(settings)
        self._diagnostics.apply(settings)

    def _status_if_configured(self) -> Status | None:
        status = self._engine.status()
        return None if status.state is State.UNCONFIGURED else status

    def _camera_findings(self) -> dict[str, tuple[str, ...]]:
        return {camera.name: camera.findings for camera in list(self._cameras)}

    def _other_reports(self) -> list[Report]:
        return [pose_report(poses.counts)] if (poses := self._poses) is not None else []

    def _stop_work(self) -> None:
        """Unsubscribe from the cameras and refuse questions; the memory is kept."""
        while self._cameras:
            self._cameras.pop().close()
        poses, self._poses = self._poses, None
        if poses is not None:
            poses.close()
        self._summaries.stop()
        self._engine.deactivate()

    def _new_engine(self) -> Engine:
        settings, process = self._settings, self._process_hooks

        def load() -> VisionLanguageModel:
            process.set_threads(settings.torch_threads)
            return load_model(**settings.model)

        hooks = EngineHooks(
            self.log.info,
            self.log.warning,
            self._advise,
            process.loaded,
            process.unloaded,
            watch_event=lambda event: self._watches.publish(event),
        )
        return Engine(settings.engine, load, hooks)

    def _drop_engine(self) -> TransitionCallbackReturn:
        if not self._engine.stop():
            self.log.warning(
                "the worker did not end in time: the model is busy, and its memory is freed when its step ends"
            )
            return TransitionCallbackReturn.ERROR
        with self.no_parameter_changes():
            self._engine = self._new_engine()
            self.lock_parameters(False)
        return TransitionCallbackReturn.SUCCESS

    def _advise(self, state: State) -> str:
        return advice(state, self.get_fully_qualified_name(), self.starting)

    @never_raises
    def _on_status(self) -> None:
        stamp = stamp_message(self.get_clock().now().nanoseconds)
        settings = self._settings
        self._status.publish(
            conversions.status_message(self._engine.status(), stamp, settings.model["name"], settings.engine.cameras)
        )
        for sentence in self._duplicates.find():
            self._duplicates_log.report(sentence, sentence)
