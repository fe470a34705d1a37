"""Questions over ROS: the service ask_scene, the topics ~/question, ~/answer and ~/answer_stream, and ~/cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flash_vstream_ros.engine.answering.question import Answer, ErrorCode, Question
from flash_vstream_ros.engine.answering.request import KeyFrameProgress, Piece, Request
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.log_text import one_line
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.scope import BadScope
from flash_vstream_ros.node import conversions
from flash_vstream_ros.node.callback_guard import never_raises
from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.node.requests import (
    EVERY_QUESTION,
    REQUEST_QOS,
    BadRequest,
    new_question_id,
    question_of,
    request_id,
)
from flash_vstream_ros.node.settings import Settings
from flash_vstream_ros.ros import MutuallyExclusiveCallbackGroup, Node, ReentrantCallbackGroup
from flash_vstream_ros.ros.interfaces import AnswerPiece, AskScene, String

SERVICE = "ask_scene"
INTERNAL_ERROR = Answer(ErrorCode.INTERNAL, "internal error in the node; its log gives details")


Reply = TypeVar("Reply", bound=Any)


class AnswerStream:
    """Publishes the pieces of one answer on ~/answer_stream."""

    def __init__(self, publisher: Any, question_id: str) -> None:
        self._publisher = publisher
        self._question_id = question_id
        self._index = 0

    def publish(self, piece: Piece) -> None:
        """Publish text, or the progress of key frames; the topic has no other pieces."""
        if isinstance(piece, KeyFrameProgress):
            self._publish(key_frames=piece.total, key_frames_done=piece.done)
        elif isinstance(piece, str):
            self._publish(text=piece)

    def end(self) -> None:
        """Publish the last, empty piece."""
        self._publish(last=True)

    def _publish(self, **fields: Any) -> None:
        self._publisher.publish(AnswerPiece(question_id=self._question_id, index=self._index, **fields))
        self._index += 1


class QuestionServices:
    """Passes questions to the engine and returns its answers. Each question occupies a thread of the executor."""

    def __init__(self, node: Node, engine: Callable[[], Engine], settings: Callable[[], Settings]) -> None:
        self._engine = engine
        self._settings = settings
        self._node_log = NodeLog(node)
        self._log = ThrottledLog(self._node_log.error)
        self._answer = node.create_publisher(String, "~/answer", 10)
        self._pieces = node.create_publisher(AnswerPiece, "~/answer_stream", 100)
        group = ReentrantCallbackGroup()
        node.create_service(AskScene, SERVICE, self._on_ask_scene, qos_profile=REQUEST_QOS, callback_group=group)
        node.create_subscription(String, "~/question", self._on_question, 10, callback_group=group)
        node.create_subscription(
            String, "~/cancel", self._on_cancel, 10, callback_group=MutuallyExclusiveCallbackGroup()
        )

    def answer(self, request: Any, response: Reply, chosen_id: str, follow: Callable[[Request], None]) -> Reply:
        """Fill `response`, a reply of the service or a result of the action, with the answer to `request`.

        `follow` is called with the queued question, and may read the pieces of its answer.
        """
        try:
            response.question_id = request_id(chosen_id, "question_id")
            settings = self._settings()
            limits, question_id = settings.question_limits, str(response.question_id)
            question, adjustments = question_of(request, question_id, limits, settings.pose)
        except (BadRequest, BadScope) as error:
            return conversions.fill_response(response, Answer(ErrorCode.INVALID_REQUEST, str(error)))
        response.adjustments = list(adjustments)
        waiting = self._engine().ask(question)
        follow(waiting)
        return conversions.fill_response(response, waiting.answer())

    def answer_stream(self, question_id: str) -> AnswerStream:
        """The publisher of an answer's pieces."""
        return AnswerStream(self._pieces, question_id)

    def _on_ask_scene(self, request: AskScene.Request, response: AskScene.Response) -> AskScene.Response:
        return self._reply_to(request, response) or conversions.fill_response(AskScene.Response(), INTERNAL_ERROR)

    @never_raises
    def _reply_to(self, request: AskScene.Request, response: AskScene.Response) -> AskScene.Response:
        follow = self._publish_pieces if request.stream else _follow_nothing
        return self.answer(request, response, str(request.question_id), follow)

    def _publish_pieces(self, waiting: Request) -> None:
        stream = self.answer_stream(waiting.question.id)
        for piece in waiting.pieces():
            stream.publish(piece)
        stream.end()

    @never_raises
    def _on_question(self, message: String) -> None:
        answer = self._engine().ask(Question(message.data, id=new_question_id())).answer()
        text = answer.text if answer.error_code is ErrorCode.NONE else f"[{answer.error_code.name}] {answer.error_msg}"
        self._answer.publish(String(data=text))

    @never_raises
    def _on_cancel(self, message: String) -> None:
        if message.data == EVERY_QUESTION:
            self._node_log.info(f"cancelled all {self._engine().cancel_all()} questions and searches")
        elif self._engine().cancel(message.data):
            self._node_log.info(f"cancelled {message.data}")
        else:
            self._log.report(
                "cancel",
                f"cancelled nothing: there is no question or search {one_line(message.data)!r}; * cancels all",
            )


def _follow_nothing(waiting: Request) -> None:
    """The client gets only the whole answer."""
