"""The action ask_scene: a question whose client gets progress and pieces of the answer as feedback. Needs rclpy."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from flash_vstream_ros.engine.answering.question import ErrorCode
from flash_vstream_ros.engine.answering.request import FoundEvidence, KeyFrameProgress, Piece, Request
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.node import conversions
from flash_vstream_ros.node.callback_guard import never_raises
from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.node.question_services import INTERNAL_ERROR, QuestionServices
from flash_vstream_ros.node.requests import REQUEST_QOS
from flash_vstream_ros.ros import Node, QoSProfile, ReentrantCallbackGroup
from flash_vstream_ros.ros.actions import HAS_ACTIONS, load_action, rclpy_action

ACTION = "ask_scene"
RESULT_TIMEOUT_S = 10  # time for which a result is kept; rclpy's default of 15 minutes would keep its thumbnails
FEEDBACK_QOS = QoSProfile(depth=1000)  # deep, since every client receives the feedback of all goals
CANCELING_S = 5.0  # longest wait for the state CANCELING, which rclpy sets just after `_on_cancel` has returned
POLL_S = 0.002  # between two looks at that state, of whose change rclpy informs nobody
NO_ACTIONS = "the action ask_scene is not offered: the embedded runtime has no actions; use the service ask_scene"


@dataclass
class _Goal:
    """A goal that has not ended. Guarded by the lock of QuestionAction."""

    question_id: str
    request: Request | None = None  # None: not in the engine yet
    is_cancelled: bool = False


class QuestionAction:
    """Answers goals as QuestionServices answers requests. Each goal occupies a thread of the executor."""

    def __init__(self, node: Node, questions: QuestionServices) -> None:
        self._questions = questions
        self._log = ThrottledLog(NodeLog(node).error)
        self._lock = threading.Lock()
        self._goals: dict[bytes, _Goal] = {}
        self._server: Any = None
        if not HAS_ACTIONS:
            NodeLog(node).info(NO_ACTIONS)
            return
        self._type, actions = load_action("flash_vstream_ros/action/AskScene"), rclpy_action()
        self._cancel_response = actions.CancelResponse
        self._server = actions.ActionServer(
            node,
            self._type,
            ACTION,
            self._on_execute,
            callback_group=ReentrantCallbackGroup(),
            handle_accepted_callback=self._on_accepted,
            goal_callback=lambda _: actions.GoalResponse.ACCEPT,
            cancel_callback=self._on_cancel,
            goal_service_qos_profile=REQUEST_QOS,
            result_service_qos_profile=REQUEST_QOS,
            cancel_service_qos_profile=REQUEST_QOS,
            feedback_pub_qos_profile=FEEDBACK_QOS,
            result_timeout=RESULT_TIMEOUT_S,
        )

    def destroy(self) -> None:
        """Destroy the action server, which rclpy's destroy_node leaves to the garbage collector."""
        if self._server is not None:
            self._server.destroy()

    def _on_accepted(self, handle: Any) -> None:
        with self._lock:
            self._goals[_key(handle)] = _Goal(str(handle.request.question_id) or _key(handle).hex())
        handle.execute()

    def _on_cancel(self, handle: Any) -> Any:
        with self._lock:
            goal = self._goals.get(_key(handle))
            if goal is None:  # ended meanwhile
                return self._cancel_response.REJECT
            goal.is_cancelled = True
            if goal.request is not None:
                goal.request.cancel()
        return self._cancel_response.ACCEPT

    def _on_execute(self, handle: Any) -> Any:
        with self._lock:
            goal = self._goals[_key(handle)]
        result = self._result(handle, goal) or conversions.fill_response(self._type.Result(), INTERNAL_ERROR)
        self._end(handle, goal, ErrorCode(result.error_code))
        return result

    @never_raises
    def _result(self, handle: Any, goal: _Goal) -> Any:
        def follow(request: Request) -> None:
            with self._lock:
                goal.request = request
                if goal.is_cancelled:
                    request.cancel()
            self._publish_pieces(handle, request)

        return self._questions.answer(handle.request, self._type.Result(), goal.question_id, follow)

    def _publish_pieces(self, handle: Any, request: Request) -> None:
        stream = self._questions.answer_stream(request.question.id) if handle.request.stream else None
        feedback = self._type.Feedback()
        for index, piece in enumerate(request.pieces()):
            _update(feedback, piece)
            feedback.index = index
            handle.publish_feedback(feedback)
            if stream:
                stream.publish(piece)
        if stream:
            stream.end()

    def _end(self, handle: Any, goal: _Goal, code: ErrorCode) -> None:
        """Set the final state of the goal: succeeded, canceled or aborted."""
        with self._lock:
            del self._goals[_key(handle)]
        if code is ErrorCode.NONE:
            handle.succeed()
        elif goal.is_cancelled and code is ErrorCode.CANCELLED and _is_canceling(handle):
            handle.canceled()
        else:
            handle.abort()


def _is_canceling(handle: Any) -> bool:
    """Wait for the state CANCELING of a goal whose cancellation `_on_cancel` accepted. Returns whether it came."""
    until = time.monotonic() + CANCELING_S
    while not handle.is_cancel_requested and time.monotonic() < until:
        time.sleep(POLL_S)
    return bool(handle.is_cancel_requested)


def _key(handle: Any) -> bytes:
    return bytes(handle.goal_id.uuid)


def _update(feedback: Any, piece: Piece) -> None:
    """Turn the previous feedback of a goal into the one with `piece`; text alone changes neither phase nor progress."""
    feedback.text, feedback.evidence = "", []
    if isinstance(piece, str):
        feedback.text = piece
    elif isinstance(piece, FoundEvidence):
        feedback.phase, feedback.progress = feedback.DECODE, 0.0
        feedback.evidence = conversions.evidence_messages(piece.evidence)
    else:
        feedback.phase = feedback.KEY_FRAMES if isinstance(piece, KeyFrameProgress) else feedback.PREFILL
        feedback.progress = piece.done / piece.total if piece.total else 1.0
