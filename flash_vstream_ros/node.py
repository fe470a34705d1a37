"""The ROS 2 node: wires topics and services to the engine, and nothing else.

Topics and services are described in README.md; the same source runs on rclpy and on the embedded runtime.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

from flash_vstream_ros import conversions
from flash_vstream_ros.diagnostics_publisher import DiagnosticsPublisher
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.frames import Frame
from flash_vstream_ros.engine.notices import Notices
from flash_vstream_ros.engine.questions import Answer, ErrorCode, Question
from flash_vstream_ros.live_parameters import LiveParameters
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.parameters import LONGEST_QUEUE, Settings
from flash_vstream_ros.periodic import Periodic
from flash_vstream_ros.ros import (
    DurabilityPolicy,
    ExternalShutdownException,
    MultiThreadedExecutor,
    MutuallyExclusiveCallbackGroup,
    Node,
    QoSProfile,
    ReentrantCallbackGroup,
    ReliabilityPolicy,
    ROSArgumentError,
    init,
    ok,
    shutdown,
)
from flash_vstream_ros.ros.images import BadImage, check, to_rgb
from flash_vstream_ros.ros.interfaces import AskScene, Empty, Image, MemoryStatus, SceneSummary, String

NODE_NAME = "flash_vstream"
IMAGE_DEPTH = 5
# The default, 10, loses requests that come at once before they can be queued or answered BUSY.
ASK_DEPTH = 100
# Threads beside those of cameras and of questions that wait: one that is answered, one that is BUSY, status, summary,
# diagnostics, cancel, parameters.
SPARE_THREADS = 7

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def never_raises(callback: Callable[..., Any]) -> Callable[..., Any]:
    """A defect in one callback is said, and costs that call: rclpy would end the node."""

    @wraps(callback)
    def guarded(self: VStreamNode, *args: Any) -> Any:
        try:
            return callback(self, *args)
        except Exception:
            if ok():
                self._notices.give(callback.__name__, f"{callback.__name__} failed: {traceback.format_exc()}")
            return None

    return guarded


class VStreamNode(LiveParameters, Node):
    """Feeds camera images to Flash Memory and answers questions about them."""

    def __init__(self) -> None:
        super().__init__(NODE_NAME)
        self._notices = Notices(self._error)
        self._settings = self.declare_settings(self._warn, self._apply_settings)
        config = self._settings.engine
        self._engine = Engine(config, partial(load_model, **self._settings.model), self._say, self._warn)
        self._summarised = self._engine.status()
        self._cameras_heard: set[str] = set()

        self._status = self.create_publisher(MemoryStatus, "~/status", 10)
        self._summary = self.create_publisher(SceneSummary, "scene_summary", LATCHED)
        self._answer = self.create_publisher(String, "~/answer", 10)
        self._answer_stream = self.create_publisher(String, "~/answer_stream", 100)
        topics = {name: "image" if len(config.cameras) == 1 else f"{name}/image" for name in config.cameras}
        for camera, topic in topics.items():
            self._subscribe(camera, topic)
        asking = ReentrantCallbackGroup()
        self.create_service(
            AskScene, "ask_scene", self._on_ask_scene, qos_profile=QoSProfile(depth=ASK_DEPTH), callback_group=asking
        )
        self.create_subscription(String, "~/question", self._on_question, 10, callback_group=asking)
        self.create_subscription(
            Empty, "~/cancel", self._on_cancel, 10, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self._status_timer = Periodic(self, self._on_status, self._settings.status_period_s)
        self._summary_timer = Periodic(self, self._on_summary, self._settings.summary_period_s)
        full_topics = {name: self.resolve_topic_name(topic) for name, topic in topics.items()}
        self._diagnostics = DiagnosticsPublisher(self, lambda: self._engine.status(), self._settings, full_topics)
        self._engine.start()
        self._say(f"loading {self._settings.model['name']}")

    @property
    def threads_needed(self) -> int:
        """Enough for the longest queue that may be asked for; the executor starts a thread when it needs one."""
        return len(self._settings.engine.cameras) + LONGEST_QUEUE + SPARE_THREADS

    def close(self) -> None:
        """Stop the engine; questions under way are answered CANCELLED."""
        self._engine.stop()

    def _apply_settings(self, settings: Settings) -> None:
        self._settings = settings
        self._engine.reconfigure(settings.engine)
        self._status_timer.every(settings.status_period_s)
        self._summary_timer.every(settings.summary_period_s)
        self._diagnostics.apply(settings)

    def _subscribe(self, camera: str, topic: str) -> None:
        reliability = ReliabilityPolicy.RELIABLE if self._settings.reliable_images else ReliabilityPolicy.BEST_EFFORT
        self.create_subscription(
            Image,
            topic,
            partial(self._on_image, camera),
            QoSProfile(depth=IMAGE_DEPTH, reliability=reliability),
            callback_group=MutuallyExclusiveCallbackGroup(),
        )
        self._say(f"camera {camera!r} listens to {self.resolve_topic_name(topic)}")

    @never_raises
    def _on_image(self, camera: str, message: Image) -> None:
        if camera not in self._cameras_heard:
            self._cameras_heard.add(camera)
            self._say(f"camera {camera!r}: first image, {message.width}x{message.height} {message.encoding}")
        try:
            check(message)
        except BadImage as error:
            self._engine.reject(camera, error.reason, str(error))
            return
        stamp_ns = conversions.nanoseconds(message.header.stamp)
        self._engine.offer(Frame(camera, message.header.frame_id, stamp_ns, partial(to_rgb, message)))

    def _on_ask_scene(self, request: AskScene.Request, response: AskScene.Response) -> AskScene.Response:
        answer = self._service_answer(request) or Answer(ErrorCode.INTERNAL, "a defect in the node: its log says more")
        return conversions.fill_response(response, answer)

    @never_raises
    def _service_answer(self, request: AskScene.Request) -> Answer:
        return self._answer_to(conversions.question(request), stream=request.stream)

    @never_raises
    def _on_question(self, message: String) -> None:
        answer = self._answer_to(Question(message.data))
        text = answer.text if answer.error_code is ErrorCode.NONE else f"[{answer.error_code.name}] {answer.error_msg}"
        self._answer.publish(String(data=text))

    def _answer_to(self, question: Question, stream: bool = False) -> Answer:
        ticket = self._engine.ask(question)
        for piece in ticket:
            if stream:
                self._answer_stream.publish(String(data=piece))
        return ticket.answer()

    @never_raises
    def _on_cancel(self, _: Empty) -> None:
        self.get_logger().info(f"cancelled {self._engine.cancel_all()} questions", throttle_duration_sec=1.0)

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
        before, now = self._summarised, self._engine.status()
        if (
            now.frames.encoded == before.frames.encoded
            or now.memory.slots == before.memory.slots
            or not self._engine.idle
        ):
            return
        since_ns = before.memory.last_ns + 1 if before.memory.last_ns else 0
        question = Question(
            self._settings.summary_prompt, since_ns=since_ns, max_new_tokens=self._settings.summary_max_new_tokens
        )
        answer = self._answer_to(question)
        if answer.error_code is not ErrorCode.NONE:
            self.get_logger().warning(
                f"no summary this time: {answer.error_code.name}: {answer.error_msg}", throttle_duration_sec=60.0
            )
            return
        self._summarised = now
        self._summary.publish(conversions.summary_message(answer, before, now, self._settings.engine.cameras))

    def _say(self, sentence: str) -> None:
        self.get_logger().info(sentence)

    def _warn(self, sentence: str) -> None:
        self.get_logger().warning(sentence)

    def _error(self, sentence: str) -> None:
        self.get_logger().error(sentence)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C, SIGTERM or shutdown. Returns the exit status: 0, or 2 for unusable ROS arguments."""
    try:
        init(args=args)
    except ROSArgumentError as error:
        print(error, file=sys.stderr)
        return 2
    node = VStreamNode()
    executor = MultiThreadedExecutor(num_threads=node.threads_needed)
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        # A launch file passes on the Ctrl-C that the terminal has sent already: the second must not cut this short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        node.close()
        executor.shutdown()
        node.destroy_node()
        if ok():
            shutdown()
    return 0
