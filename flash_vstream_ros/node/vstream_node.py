"""The ROS 2 node: wires topics, services and the life cycle to the engine, and nothing else.

All of them are described in README.md; the same source runs on rclpy and on the embedded runtime.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from functools import partial

from flash_vstream_ros.engine.answering.request_queue import Answer, ErrorCode, Question
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.log_text import one_line
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.engine.status import Status, news
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.scope import BadScope, Scope
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.node import conversions
from flash_vstream_ros.node.callback_guard import never_raises
from flash_vstream_ros.node.cameras import Camera, camera_topics
from flash_vstream_ros.node.diagnostics_publisher import DiagnosticsPublisher
from flash_vstream_ros.node.image_qos import unused_overrides
from flash_vstream_ros.node.live_parameters import LiveParameters
from flash_vstream_ros.node.managed_node import ManagedNode, error_if_it_raises
from flash_vstream_ros.node.memory_services import MemoryServices
from flash_vstream_ros.node.parameter_table import MAX_QUEUE
from flash_vstream_ros.node.periodic_timer import Periodic
from flash_vstream_ros.node.requests import EVERY_QUESTION, BadRequest, new_question_id, question_of
from flash_vstream_ros.node.settings import Settings
from flash_vstream_ros.process import end_within, leave_signals_to_ros
from flash_vstream_ros.ros import (
    DurabilityPolicy,
    LifecycleState,
    MultiThreadedExecutor,
    MutuallyExclusiveCallbackGroup,
    QoSProfile,
    ReentrantCallbackGroup,
    ReliabilityPolicy,
    ROSArgumentError,
    TransitionCallbackReturn,
    init,
    ok,
    shutdown,
)
from flash_vstream_ros.ros.interfaces import AnswerPiece, AskScene, MemoryStatus, SceneSummary, String
from flash_vstream_ros.ros.middleware import use_shipped_profile

NODE_NAME = "flash_vstream"
# The default, 10, loses requests that come at once before they can be queued or answered BUSY.
ASK_DEPTH = 1000
# Threads beside those of cameras and of questions that wait: one that is answered, one that is BUSY, status, summary,
# diagnostics, cancel, memory services, parameters, a transition, one to ask about it meanwhile.
SPARE_THREADS = 10

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def advice(state: State, node: str, starting: bool) -> str:
    """The end of a sentence: what makes a node in `state` answer. `starting`: it is about to do so by itself."""
    if state is State.FAILED:
        return f"; once that is mended: ros2 lifecycle set {node} configure, or start the node again"
    if state not in (State.UNCONFIGURED, State.INACTIVE):
        return ""
    if starting:
        return "; it is still loading and goes on by itself: ask again when ~/status says READY"
    return f"; ros2 lifecycle set {node} {'configure' if state is State.UNCONFIGURED else 'activate'}"


class VStreamNode(LiveParameters, ManagedNode):
    """Feeds camera images to Flash Memory and answers questions about them, when it is active."""

    camera_type = Camera

    def __init__(self) -> None:
        super().__init__(NODE_NAME)
        self._log = ThrottledLog(self._error)
        self._settings = self.declare_settings(self._warn, self._apply_settings)
        self._engine = self._new_engine()
        self._summarised = self._engine.status()
        self._summary_lock = threading.Lock()
        self._cameras: list[Camera] = []
        self._closing = False

        self._status = self.create_publisher(MemoryStatus, "~/status", 10)
        self._summary = self.create_publisher(SceneSummary, "scene_summary", LATCHED)
        self._answer = self.create_publisher(String, "~/answer", 10)
        self._answer_stream = self.create_publisher(AnswerPiece, "~/answer_stream", 100)
        asking = ReentrantCallbackGroup()
        self.create_service(
            AskScene, "ask_scene", self._on_ask_scene, qos_profile=QoSProfile(depth=ASK_DEPTH), callback_group=asking
        )
        self.create_subscription(String, "~/question", self._on_question, 10, callback_group=asking)
        self.create_subscription(
            String, "~/cancel", self._on_cancel, 10, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self._memory_services = MemoryServices(self, lambda: self._engine, self._take_back_summary)
        self._status_timer = Periodic(self, self._on_status, self._settings.status_period_s)
        self._summary_timer = Periodic(self, self._on_summary, self._settings.summary_period_s)
        self._diagnostics = DiagnosticsPublisher(self, self._status_where_configured, self._settings, self._unheard)
        self._rest()
        self.lock_parameters(False)
        if self._settings.autostart:
            self.autostart()
        else:
            self._say(f"waiting for: ros2 lifecycle set {self.get_fully_qualified_name()} configure")

    @property
    def threads_needed(self) -> int:
        """Enough for the longest queue that may be asked for; the executor starts a thread when it needs one."""
        return len(self._settings.engine.cameras) + MAX_QUEUE + SPARE_THREADS

    def close(self) -> bool:
        """Stop the engine; questions under way are answered CANCELLED. False where a model was loading and still is."""
        self._closing = True
        ended = self._engine.stop()
        self.wait_for_transition(1.0)  # rclpy does not wait for callbacks, and destroys what this one is using
        return ended

    @error_if_it_raises
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        with self.parameters_held():
            self.lock_parameters(True)
            self._engine = self._new_engine()
        self._summarised = self._engine.status()
        if not self._closing:
            self._say(f"loading {self._settings.model['name']}")
            self._engine.start()
            if self._engine.wait_until_loaded():
                return TransitionCallbackReturn.SUCCESS
        return TransitionCallbackReturn.FAILURE if self._closing else TransitionCallbackReturn.ERROR

    @error_if_it_raises
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._cameras = [
            self.camera_type(
                self,
                name,
                topic,
                offer=self._engine.offer,
                reject=self._engine.reject,
                transport=self._settings.image_transport,
                reliability=self._settings.image_reliability,
                decoding=self._settings.decoding,
            )
            for name, topic in camera_topics(self._settings.engine.cameras).items()
        ]
        for name in unused_overrides(self):
            self._warn(
                f"parameter {name!r} is ignored: it is of no camera's topic, or of no policy that can be overridden"
            )
        self._summary_timer.reset()
        self._engine.activate()
        return TransitionCallbackReturn.SUCCESS

    @error_if_it_raises
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._rest()
        return TransitionCallbackReturn.SUCCESS

    @error_if_it_raises
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._drop_engine()

    @error_if_it_raises
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._rest()
        self._engine.stop()
        return TransitionCallbackReturn.SUCCESS

    @error_if_it_raises
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._rest()
        if self._engine.state is State.FAILED:  # it says why until it is configured again
            self.lock_parameters(False)
            return TransitionCallbackReturn.SUCCESS
        return self._drop_engine()

    def _apply_settings(self, settings: Settings) -> None:
        self._settings = settings
        if self.parameters_locked:
            self._engine.reconfigure(settings.engine)
        elif self._engine.state is State.UNCONFIGURED:
            self._engine = self._new_engine()
        self._status_timer.every(settings.status_period_s)
        self._summary_timer.every(settings.summary_period_s)
        self._diagnostics.apply(settings)

    def _status_where_configured(self) -> Status | None:
        status = self._engine.status()
        return None if status.state is State.UNCONFIGURED else status

    def _unheard(self) -> dict[str, tuple[str, ...]]:
        return {camera.name: camera.findings for camera in list(self._cameras)}

    def _rest(self) -> None:
        """Neither listen to cameras nor answer; the memory is kept."""
        while self._cameras:
            self._cameras.pop().close()
        self._summary_timer.cancel()
        self._engine.deactivate()

    def _new_engine(self) -> Engine:
        load = partial(load_model, **self._settings.model)
        return Engine(self._settings.engine, load, self._say, self._warn, self._advise)

    def _drop_engine(self) -> TransitionCallbackReturn:
        if not self._engine.stop():
            self._warn("the model is busy and does not end; its memory cannot be freed")
            return TransitionCallbackReturn.ERROR
        with self.parameters_held():
            self._engine = self._new_engine()
            self.lock_parameters(False)
        return TransitionCallbackReturn.SUCCESS

    def _advise(self, state: State) -> str:
        return advice(state, self.get_fully_qualified_name(), self.starting)

    def _on_ask_scene(self, request: AskScene.Request, response: AskScene.Response) -> AskScene.Response:
        failure = Answer(ErrorCode.INTERNAL, "a defect in the node; its log gives details")
        return self._fill_answer(request, response) or conversions.fill_response(AskScene.Response(), failure)

    @never_raises
    def _fill_answer(self, request: AskScene.Request, response: AskScene.Response) -> AskScene.Response:
        """Answer a request. Returns None after a defect."""
        try:
            question, adjustments = question_of(request, self._settings.question_limits)
        except (BadRequest, BadScope) as error:
            return conversions.fill_response(response, Answer(ErrorCode.INVALID_REQUEST, str(error)))
        response.question_id, response.adjustments = question.id, list(adjustments)
        return conversions.fill_response(response, self._answer_to(question, stream=request.stream))

    @never_raises
    def _on_question(self, message: String) -> None:
        answer = self._answer_to(Question(message.data, id=new_question_id()))
        text = answer.text if answer.error_code is ErrorCode.NONE else f"[{answer.error_code.name}] {answer.error_msg}"
        self._answer.publish(String(data=text))

    def _answer_to(self, question: Question, stream: bool = False) -> Answer:
        request = self._engine.ask(question)
        index = 0
        for index, piece in enumerate(request, 1):
            if stream:
                self._answer_stream.publish(AnswerPiece(question_id=question.id, index=index - 1, text=piece))
        if stream:
            self._answer_stream.publish(AnswerPiece(question_id=question.id, index=index, last=True))
        return request.answer()

    @never_raises
    def _on_cancel(self, message: String) -> None:
        if message.data == EVERY_QUESTION:
            sentence = f"cancelled all questions: {self._engine.cancel_all()}"
        elif self._engine.cancel(message.data):
            sentence = f"cancelled question {message.data}"
        else:
            sentence = f"cancelled nothing: no question {one_line(message.data)!r} is under way; * cancels all"
        self.get_logger().info(sentence, throttle_duration_sec=1.0)

    @never_raises
    def _on_status(self) -> None:
        now = self.get_clock().now().to_msg()
        settings = self._settings
        self._status.publish(
            conversions.status_message(self._engine.status(), now, settings.model["name"], settings.engine.cameras)
        )
        if self.get_node_names_and_namespaces().count((self.get_name(), self.get_namespace())) > 1:
            self.get_logger().warning(
                f"another node is called {self.get_fully_qualified_name()}: both answer the same questions;"
                " rename one with --ros-args -r __node:=NAME or -r __ns:=/NAMESPACE",
                throttle_duration_sec=60.0,
            )

    @never_raises
    def _on_summary(self) -> None:
        now = self._engine.status()
        fresh = news(self._summarised, now)
        if fresh is None or not self._engine.idle:
            return
        question = Question(
            self._settings.summary_prompt,
            Scope(since_ns=fresh.since_ns, until_ns=fresh.until_ns),
            max_new_tokens=self._settings.summary_max_new_tokens,
        )
        answer = self._answer_to(question)
        if answer.error_code is not ErrorCode.NONE:
            if self._engine.state is State.READY:  # else it was deactivated meanwhile, which needs no warning
                self.get_logger().warning(
                    f"no summary this time: {answer.error_code.name}: {answer.error_msg}", throttle_duration_sec=60.0
                )
            return
        with self._summary_lock:
            if self._engine.status().memory.revision == now.memory.revision:
                self._summarised = now
                self._summary.publish(conversions.summary_message(answer, fresh))

    def _take_back_summary(self) -> None:
        """The latched summary may tell of what was just forgotten."""
        with self._summary_lock:
            self._summary.publish(SceneSummary())

    def _say(self, sentence: str) -> None:
        if ok():  # after shutdown rclpy complains that /rosout is gone
            self.get_logger().info(sentence)

    def _warn(self, sentence: str) -> None:
        if ok():
            self.get_logger().warning(sentence)

    def _error(self, sentence: str) -> None:
        if ok():
            self.get_logger().error(sentence)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C, SIGTERM or shutdown.

    Returns the exit status: 0, or 2 for unusable ROS arguments. A model that is loading then goes on in its thread:
    end the process with `end_process`.
    """
    use_shipped_profile()
    ignore_again = leave_signals_to_ros()
    try:
        init(args=args)
    except ROSArgumentError as error:
        print(error, file=sys.stderr)
        return 2
    ignore_again()
    try:
        _run()
    except Exception:
        if ok():
            raise
        # A signal ends the context under whatever uses it: rclpy then raises RCLError, InvalidHandle or its own kind.
    finally:
        if ok():
            shutdown()
    return 0


def _run() -> None:
    node = VStreamNode()
    try:
        executor = MultiThreadedExecutor(num_threads=node.threads_needed)
        executor.add_node(node)
        try:
            executor.spin()
        finally:
            end_within()
            node.close()
            executor.shutdown()
    finally:
        node.destroy_node()
