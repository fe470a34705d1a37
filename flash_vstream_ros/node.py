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
from flash_vstream_ros.cameras import Camera, camera_topics
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.questions import Answer, ErrorCode, Question
from flash_vstream_ros.image_qos import unused_overrides
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.parameters import declare
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
from flash_vstream_ros.ros.interfaces import AskScene, Empty, MemoryStatus, SceneSummary, String

NODE_NAME = "flash_vstream"
# Threads beside those that wait for answers: cameras, status, summary, cancel, and one to answer BUSY.
SPARE_THREADS = 5

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def never_raises(callback: Callable[..., Any]) -> Callable[..., Any]:
    """A defect in one callback is said, and costs that call: rclpy would end the node."""

    @wraps(callback)
    def guarded(self: VStreamNode, *args: Any) -> Any:
        try:
            return callback(self, *args)
        except Exception:
            if ok():
                message = f"{callback.__name__} failed: {traceback.format_exc()}"
                self.get_logger().error(message, throttle_duration_sec=10.0)
            return None

    return guarded


class VStreamNode(Node):
    """Feeds camera images to Flash Memory and answers questions about them."""

    camera_type = Camera

    def __init__(self) -> None:
        super().__init__(NODE_NAME)
        self._settings = declare(self, self._warn)
        config = self._settings.engine
        self._engine = Engine(config, partial(load_model, **self._settings.model), self._say, self._warn)
        self._summarised = self._engine.status()

        self._status = self.create_publisher(MemoryStatus, "~/status", 10)
        self._summary = self.create_publisher(SceneSummary, "scene_summary", LATCHED)
        self._answer = self.create_publisher(String, "~/answer", 10)
        self._answer_stream = self.create_publisher(String, "~/answer_stream", 100)
        self._cameras = [
            self.camera_type(
                self,
                name,
                topic,
                offer=self._engine.offer,
                reject=self._engine.reject,
                transport=self._settings.image_transport,
                reliability=self._settings.image_reliability,
            )
            for name, topic in camera_topics(config.cameras).items()
        ]
        for name in unused_overrides(self):
            self._warn(
                f"parameter {name!r} is ignored: it is of no camera's topic, or of no policy that can be overridden"
            )
        asking = ReentrantCallbackGroup()
        self.create_service(AskScene, "ask_scene", self._on_ask_scene, callback_group=asking)
        self.create_subscription(String, "~/question", self._on_question, 10, callback_group=asking)
        self.create_subscription(
            Empty, "~/cancel", self._on_cancel, 10, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self.create_timer(
            self._settings.status_period_s, self._on_status, callback_group=MutuallyExclusiveCallbackGroup()
        )
        if self._settings.summary_period_s > 0:
            self.create_timer(
                self._settings.summary_period_s, self._on_summary, callback_group=MutuallyExclusiveCallbackGroup()
            )
        self._engine.start()
        self._say(f"loading {self._settings.model['name']}")

    @property
    def threads_needed(self) -> int:
        config = self._settings.engine
        return len(config.cameras) + config.question_queue + SPARE_THREADS

    def close(self) -> None:
        """Unsubscribe and stop the engine; questions under way are answered CANCELLED."""
        for camera in self._cameras:
            camera.close()
        self._engine.stop()

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
        self._say(f"cancelled {self._engine.cancel_all()} questions")

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
            self._warn(f"no summary this time: {answer.error_code.name}: {answer.error_msg}")
            return
        self._summarised = now
        self._summary.publish(conversions.summary_message(answer, before, now))

    def _say(self, sentence: str) -> None:
        self.get_logger().info(sentence)

    def _warn(self, sentence: str) -> None:
        self.get_logger().warning(sentence)


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
