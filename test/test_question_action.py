"""The action ask_scene on rclpy: many goals at once, feedback of one's own goal only, cancelling, and no leak."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_until
from robot import SMALL, Robot, new_namespace

from flash_vstream_ros.instruments.running_node import running_node
from flash_vstream_ros.node.question_action import NO_ACTIONS
from flash_vstream_ros.node.vstream_node import VStreamNode
from flash_vstream_ros.ros import QoSProfile
from flash_vstream_ros.ros.actions import HAS_ACTIONS, load_action, rclpy_action
from flash_vstream_ros.ros.stamps import duration_message

pytestmark = pytest.mark.slow  # answers many questions

needs_actions = pytest.mark.skipif(not HAS_ACTIONS, reason="the embedded runtime has no actions")
GOALS = 20
DEADLINE_S = 100.0
LEAK_GOALS = int(os.environ.get("FLASH_VSTREAM_ACTION_GOALS", "60"))
LEAK_BYTES = 64 << 20  # far less than 1,000 goals with their results, far more than what allocators keep
SUCCEEDED, CANCELED, ABORTED = 4, 5, 6  # of action_msgs/GoalStatus


class Asker:
    """Sends goals from a robot's node, whose executor only `robot.spin` runs."""

    def __init__(self, robot: Robot, namespace: str) -> None:
        self.robot = robot
        self.type = load_action("flash_vstream_ros/action/AskScene")
        self._client = rclpy_action().ActionClient(
            robot.node, self.type, f"{namespace}/ask_scene", feedback_sub_qos_profile=QoSProfile(depth=10_000)
        )
        robot.wait_for(self._client.server_is_ready)

    def send(self, feedback: list[Any], **fields: Any) -> Any:
        """The handle of an accepted goal; its feedback is appended to `feedback`."""
        return self.handles([self.request(feedback, **fields)])[0]

    def request(self, feedback: list[Any], **fields: Any) -> Any:
        """Send a goal; returns the future of its handle."""
        return self._client.send_goal_async(
            self.type.Goal(deadline=duration_message(DEADLINE_S), **fields),
            feedback_callback=lambda message: feedback.append(message.feedback),
        )

    def handles(self, sent: list[Any]) -> list[Any]:
        """The handles of goals, which must be accepted."""
        self.robot.wait_for(lambda: all(future.done() for future in sent))
        handles = [future.result() for future in sent]
        assert all(handle.accepted for handle in handles)
        return handles

    def ends(self, handles: list[Any]) -> list[Any]:
        """Last states and results of goals."""
        results = [handle.get_result_async() for handle in handles]
        self.robot.wait_for(lambda: all(result.done() for result in results))
        return [result.result() for result in results]

    def destroy(self) -> None:
        self._client.destroy()


@pytest.fixture(scope="module")
def node() -> Iterator[tuple[VStreamNode, str]]:
    space = new_namespace()
    args = ["test", "--ros-args", "-r", f"__ns:={space}", *SMALL, "-p", "model.name:=tiny-random"]
    with running_node(VStreamNode, [*args, "-p", "question.queue:=64"]) as (node, _):
        yield node, space


@pytest.fixture(scope="module")
def asker(node: tuple[VStreamNode, str]) -> Iterator[Asker]:
    space = node[1]
    with Robot(space) as robot:
        robot.wait_until_ready()
        robot.see(range(1, 9))
        asker = Asker(robot, space)
        yield asker
        asker.destroy()


def before_gap(pieces: list[Any]) -> list[Any]:
    """The pieces before the first one that was lost."""
    return [piece for place, piece in enumerate(pieces) if piece.index == place]


@needs_actions
def test_a_goal_gets_the_answer_as_feedback_and_as_its_result(asker: Asker) -> None:
    feedback: list[Any] = []
    end = asker.ends([asker.send(feedback, question="What is there?", max_new_tokens=4)])[0]
    reply = asker.robot.ask(asker.robot.request("What is there?", max_new_tokens=4))
    assert (end.status, end.result.error_code, end.result.answer) == (SUCCEEDED, 0, reply.answer)
    assert len(end.result.question_id) == 32
    assert [piece.index for piece in feedback] == list(range(len(feedback)))
    phases = [piece.phase for piece in feedback]
    assert phases == sorted(phases)
    assert {asker.type.Feedback.PREFILL, asker.type.Feedback.DECODE} <= set(phases)
    assert "".join(piece.text for piece in feedback).rstrip() == reply.answer
    evidence = [list(piece.evidence) for piece in feedback if piece.evidence]
    assert [[entry.since for entry in entries] for entries in evidence] == [
        [entry.since for entry in end.result.evidence]
    ]


@needs_actions
def test_a_goal_that_cannot_be_answered_is_aborted_with_the_reason(asker: Asker) -> None:
    empty, unknown = asker.send([], question=" "), asker.send([], question="what?", cameras=["left"])
    ends = asker.ends([empty, unknown])
    assert [(end.status, end.result.error_code) for end in ends] == [(ABORTED, 5)] * 2
    assert "unknown camera left" in ends[1].result.error_msg


@needs_actions
def test_goals_at_once_end_in_the_right_state_and_get_only_their_own_pieces(asker: Asker) -> None:
    chance = random.Random(7)
    feedback: list[list[Any]] = [[] for _ in range(GOALS)]
    sent = [  # the others wait for the first, which only ends when it is cancelled
        asker.request(
            pieces, question="Tell a story", question_id=f"goal{index}", max_new_tokens=12 if index else 65535
        )
        for index, pieces in enumerate(feedback)
    ]
    handles = asker.handles(sent)
    asker.robot.wait_for(lambda: any(piece.evidence for piece in feedback[0]))
    waiting = chance.sample(range(1, GOALS), GOALS // 2)
    cancelled = {index: handles[index].cancel_goal_async() for index in [*waiting, 0]}
    for index in chance.sample(sorted(set(range(GOALS)) - set(cancelled)), 3):  # perhaps too late
        asker.robot.spin(chance.uniform(0.0, 0.05))
        cancelled[index] = handles[index].cancel_goal_async()
    asker.robot.wait_for(lambda: all(future.done() for future in cancelled.values()))
    ends = asker.ends(handles)
    asker.robot.spin(1.0)  # feedback may arrive after its result
    accepted = {index for index, future in cancelled.items() if future.result().goals_canceling}
    assert accepted >= {*waiting, 0}
    for index, (end, pieces) in enumerate(zip(ends, feedback, strict=True)):
        assert end.result.question_id == f"goal{index}"
        indices = [piece.index for piece in pieces]  # with gaps, since the first has thousands of pieces
        assert indices == sorted(set(indices))
        assert (end.result.answer + " ").startswith("".join(piece.text for piece in before_gap(pieces)))
        is_cancelled = index in (*waiting, 0) or (index in accepted and end.result.error_code != 0)
        assert (end.status, end.result.error_code) == ((CANCELED, 6) if is_cancelled else (SUCCEEDED, 0))


@needs_actions
def test_a_question_id_that_is_in_use_neither_answers_nor_cancels_the_other_question(asker: Asker) -> None:
    long, pieces = {"question": "Tell a story", "question_id": "twice", "max_new_tokens": 65535}, list[Any]()
    first = asker.send(pieces, **long)
    asker.robot.wait_for(lambda: bool(pieces))
    second = asker.ends([asker.send([], **long)])[0]
    assert (second.status, second.result.error_code) == (ABORTED, 5)
    asker.robot.wait_for(first.cancel_goal_async().done)
    end = asker.ends([first])[0]
    assert (end.status, end.result.error_code) == (CANCELED, 6)


@needs_actions
def test_ended_goals_leave_nothing(asker: Asker, node: tuple[VStreamNode, str]) -> None:
    def one(index: int) -> None:
        handle = asker.send([], question="What?", max_new_tokens=1)
        if index % 4 == 0:
            handle.cancel_goal_async()
        asker.ends([handle])

    action = node[0]._question_action
    for index in range(20):
        one(index)
    files, before = len(list(Path("/proc/self/fd").iterdir())), _rss()
    for index in range(LEAK_GOALS):
        one(index)
    assert not action._goals
    assert wait_until(lambda: asker.robot.spin(0.1) or not action._server._goal_handles), "results are kept"
    assert len(list(Path("/proc/self/fd").iterdir())) <= files
    assert _rss() - before < LEAK_BYTES


def _rss() -> int:
    """Resident memory of this process [bytes]."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize()


@pytest.mark.skipif(HAS_ACTIONS, reason="rclpy has actions")
def test_the_embedded_runtime_says_once_that_it_has_no_actions(console: Any) -> None:
    args = ["test", "--ros-args", "-r", f"__ns:={new_namespace()}", "-p", "autostart:=false"]
    with running_node(VStreamNode, args):
        assert wait_until(lambda: NO_ACTIONS in console())
    assert console().count(NO_ACTIONS) == 1
