"""Goals of the action ask_scene, sent from a robot's node, and goals that are cancelled in a chosen phase."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

from robot import Robot

from flash_vstream_ros.client import CALL_QOS
from flash_vstream_ros.ros import QoSProfile
from flash_vstream_ros.ros.actions import load_action, rclpy_action
from flash_vstream_ros.ros.stamps import duration_message

DEADLINE_S = 100.0
ENDLESS = 65535  # tokens of an answer that only ends when it is cancelled
SHORT = 12  # tokens
SUCCEEDED, CANCELED, ABORTED = 4, 5, 6  # of action_msgs/GoalStatus
WAIT_S = 0.3  # longest wait of a goal in the queue until it is cancelled

# When a goal is cancelled: as soon as it is accepted, while it waits for an endless one, at its first feedback, after
# some pieces of an endless answer, after some pieces of a short one (perhaps too late), after its result, or never.
ACCEPTED, WAITING, PREFILL, DECODE, LATE, ENDED, NEVER = PHASES = (
    "accepted",
    "waiting",
    "prefill",
    "decode",
    "late",
    "ended",
    "never",
)


class Asker:
    """Sends goals from a robot's node, whose executor only `robot.spin` runs."""

    def __init__(self, robot: Robot, namespace: str) -> None:
        self.robot = robot
        self.type = load_action("flash_vstream_ros/action/AskScene")
        # At rclpy's depth of 10, a burst of goals loses requests and replies.
        services = {f"{name}_service_qos_profile": CALL_QOS for name in ("goal", "result", "cancel")}
        self._client = rclpy_action().ActionClient(
            robot.node,
            self.type,
            f"{namespace}/ask_scene",
            **services,
            feedback_sub_qos_profile=QoSProfile(depth=10_000),
        )
        robot.wait_for(self._client.server_is_ready)

    def send(self, feedback: list[Any], **fields: Any) -> Any:
        """The handle of an accepted goal; its feedback is appended to `feedback`."""
        sent = self.request(feedback, **fields)
        self.robot.wait_for(sent.done)
        handle = sent.result()
        assert handle.accepted
        return handle

    def request(self, feedback: list[Any], **fields: Any) -> Any:
        """Send a goal; returns the future of its handle."""
        return self._client.send_goal_async(
            self.type.Goal(deadline=duration_message(DEADLINE_S), **fields),
            feedback_callback=lambda message: feedback.append(message.feedback),
        )

    def ends(self, handles: list[Any]) -> list[Any]:
        """Last states and results of goals."""
        results = [handle.get_result_async() for handle in handles]
        self.robot.wait_for(lambda: all(result.done() for result in results))
        return [result.result() for result in results]

    def destroy(self) -> None:
        self._client.destroy()


@dataclass
class PlannedGoal:
    """A goal that is cancelled in `phase`, with what came back of it."""

    phase: str
    pieces_before: int  # pieces of text that come before it is cancelled in DECODE and LATE
    wait_s: float  # from its acceptance until it is cancelled in WAITING
    feedback: list[Any] = field(default_factory=list)
    result: Any = None  # future; None: not accepted yet
    cancelled: Any = None  # future of the reply to the cancellation; None: not cancelled yet
    _handle: Any = None
    _accepted_at: float = 0.0

    @property
    def max_new_tokens(self) -> int:
        return ENDLESS if self.phase in (PREFILL, DECODE) else SHORT

    @property
    def is_cancelled_in_time(self) -> bool:
        """Whether its cancellation surely comes before the end of its answer."""
        return self.phase in (ACCEPTED, WAITING, PREFILL, DECODE)

    @property
    def was_canceling(self) -> bool:
        """Whether the node accepted its cancellation."""
        return self.cancelled is not None and bool(self.cancelled.result().goals_canceling)

    @property
    def is_over(self) -> bool:
        """Whether its result, and the reply to its cancellation if it is to be cancelled, have come."""
        has_reply = self.cancelled is not None and self.cancelled.done()
        return self.result is not None and self.result.done() and (has_reply or self.phase == NEVER)

    def send(self, asker: Asker, question_id: str) -> None:
        sent = asker.request(
            self.feedback, question="Tell a story", question_id=question_id, max_new_tokens=self.max_new_tokens
        )
        sent.add_done_callback(self._on_reply)

    def cancel_if_due(self) -> None:
        if self._handle is not None and self.cancelled is None and self._is_due():
            self.cancelled = self._handle.cancel_goal_async()

    def _on_reply(self, sent: Any) -> None:
        self._handle, self._accepted_at = sent.result(), time.monotonic()
        assert self._handle.accepted
        self.result = self._handle.get_result_async()
        self.cancel_if_due()

    def _is_due(self) -> bool:
        has_pieces = sum(bool(piece.text) for piece in self.feedback) >= self.pieces_before
        return {
            ACCEPTED: True,
            WAITING: time.monotonic() >= self._accepted_at + self.wait_s,
            PREFILL: bool(self.feedback),
            DECODE: has_pieces,
            LATE: has_pieces or self.result.done(),
            ENDED: self.result.done(),
            NEVER: False,
        }[self.phase]


def planned_goals(count: int, seed: int) -> list[PlannedGoal]:
    """Goals in random phases, every phase at least once. `count` is at least len(PHASES)."""
    chance = random.Random(seed)
    phases = [*PHASES, *chance.choices(PHASES, k=count - len(PHASES))]
    chance.shuffle(phases)
    return [PlannedGoal(phase, chance.randint(1, SHORT), chance.uniform(0.0, WAIT_S)) for phase in phases]
