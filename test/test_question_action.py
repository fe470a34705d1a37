"""The action ask_scene on rclpy: many goals at once, feedback of one's own goal only, cancelling, and no leak."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from allocated_memory import allocated_bytes
from conftest import wait_until
from goals import ABORTED, CANCELED, ENDED, ENDLESS, PHASES, SUCCEEDED, WAITING, Asker, PlannedGoal, planned_goals
from robot import SMALL, Robot, new_namespace

from flash_vstream_ros.instruments.running_node import running_node
from flash_vstream_ros.node.question_action import NO_ACTIONS
from flash_vstream_ros.node.vstream_node import VStreamNode
from flash_vstream_ros.ros.actions import HAS_ACTIONS
from flash_vstream_ros.ros.interfaces import AnswerPiece

pytestmark = pytest.mark.slow  # answers many questions

needs_actions = pytest.mark.skipif(not HAS_ACTIONS, reason="the embedded runtime has no actions")
GOALS = 20
ROUNDS = 2  # of goals at once, for each seed
LEAK_GOALS = int(os.environ.get("FLASH_VSTREAM_ACTION_GOALS", "60"))
WARM_UP_GOALS = 40
LEAK_BYTES = 14_000  # allocated for each goal; twice what was measured just after the warm-up


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


def texts(pieces: list[Any]) -> list[str]:
    return [piece.text for piece in pieces if piece.text]


@needs_actions
def test_a_goal_gets_the_answer_as_feedback_and_as_its_result(asker: Asker) -> None:
    feedback: list[Any] = []
    handle = asker.send(feedback, question="What is there?", max_new_tokens=4)
    reply = asker.robot.ask(asker.robot.request("What is there?", max_new_tokens=4))
    # Before the result is requested: once rclpy's client has it, it drops the goal's feedback.
    asker.robot.wait_for(lambda: "".join(texts(feedback)).rstrip() == reply.answer)
    end = asker.ends([handle])[0]
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
def test_only_a_goal_with_stream_is_published_on_the_answer_stream(asker: Asker, node: tuple[VStreamNode, str]) -> None:
    streamed: list[Any] = []
    topic = f"{node[1]}/flash_vstream/answer_stream"
    publisher = node[0]._question_action._questions._pieces
    others = publisher.get_subscription_count()
    subscription = asker.robot.node.create_subscription(AnswerPiece, topic, streamed.append, 1000)
    asker.robot.wait_for(lambda: publisher.get_subscription_count() > others)
    feedback: list[Any] = []
    silent = asker.send([], question="What is there?", max_new_tokens=4)
    streaming = asker.send(feedback, question="What is there?", max_new_tokens=4, stream=True)
    asker.ends([silent])
    asker.robot.wait_for(lambda: bool(streamed) and streamed[-1].last)
    # Before the result is requested: once rclpy's client has it, it drops the goal's feedback.
    asker.robot.wait_for(lambda: len(texts(feedback)) >= len(texts(streamed)))
    end = asker.ends([streaming])[0]
    asker.robot.node.destroy_subscription(subscription)
    goal_id = bytes(streaming.goal_id.uuid).hex()
    assert end.result.question_id == goal_id
    assert {piece.question_id for piece in streamed} == {goal_id}
    assert [piece.index for piece in streamed] == list(range(len(streamed)))
    assert [piece.last for piece in streamed] == [False] * (len(streamed) - 1) + [True]
    assert texts(streamed) == texts(feedback)
    assert "".join(texts(streamed)).rstrip() == end.result.answer


@needs_actions
def test_a_goal_that_cannot_be_answered_is_aborted_with_the_reason(asker: Asker) -> None:
    empty, unknown = asker.send([], question=" "), asker.send([], question="what?", cameras=["left"])
    ends = asker.ends([empty, unknown])
    assert [(end.status, end.result.error_code) for end in ends] == [(ABORTED, 5)] * 2
    assert "unknown camera left" in ends[1].result.error_msg


@needs_actions
@pytest.mark.parametrize("seed", [7, 11, 13])
def test_goals_cancelled_at_once_in_all_phases_end_in_the_right_state_with_their_own_pieces(
    asker: Asker, seed: int
) -> None:
    for number in range(ROUNDS):
        name = f"goal{seed}_{number}_"
        goals = planned_goals(GOALS, seed + 1000 * number)
        run_beside_an_endless_goal(asker, goals, name)
        for index, goal in enumerate(goals):
            check_end(goal, f"{name}{index}")


def run_beside_an_endless_goal(asker: Asker, goals: list[PlannedGoal], name: str) -> None:
    """Send goals at once and cancel each in its phase. An endless one stays first until those in WAITING are cancelled.

    Question ids are `name` and the goal's place.
    """
    pieces: list[Any] = []
    first = asker.send(pieces, question="Tell a story", max_new_tokens=ENDLESS)
    asker.robot.wait_for(lambda: any(piece.evidence for piece in pieces))
    for index, goal in enumerate(goals):
        goal.send(asker, f"{name}{index}")

    def are_all(phases: tuple[str, ...]) -> bool:
        for goal in goals:
            goal.cancel_if_due()
        return all(goal.is_over for goal in goals if goal.phase in phases)

    asker.robot.wait_for(lambda: are_all((WAITING,)))
    asker.robot.wait_for(first.cancel_goal_async().done)
    asker.robot.wait_for(lambda: are_all(PHASES))
    assert asker.ends([first])[0].status == CANCELED
    asker.robot.spin(0.3)  # feedback may arrive after its result


def check_end(goal: PlannedGoal, question_id: str) -> None:
    end = goal.result.result()
    assert end.result.question_id == question_id
    indices = [piece.index for piece in goal.feedback]  # with gaps, since endless goals have thousands of pieces
    assert indices == sorted(set(indices))
    assert (end.result.answer + " ").startswith("".join(piece.text for piece in before_gap(goal.feedback)))
    assert goal.was_canceling or not goal.is_cancelled_in_time
    assert not (goal.phase == ENDED and goal.was_canceling)
    is_cancelled = goal.is_cancelled_in_time or (goal.was_canceling and end.result.error_code != 0)
    assert (end.status, end.result.error_code) == ((CANCELED, 6) if is_cancelled else (SUCCEEDED, 0)), goal.phase


@needs_actions
def test_a_question_id_that_is_in_use_neither_answers_nor_cancels_the_other_question(asker: Asker) -> None:
    long, pieces = {"question": "Tell a story", "question_id": "twice", "max_new_tokens": ENDLESS}, list[Any]()
    first = asker.send(pieces, **long)
    asker.robot.wait_for(lambda: bool(pieces))
    second = asker.ends([asker.send([], **long)])[0]
    assert (second.status, second.result.error_code) == (ABORTED, 5)
    asker.robot.wait_for(first.cancel_goal_async().done)
    end = asker.ends([first])[0]
    assert (end.status, end.result.error_code) == (CANCELED, 6)


@needs_actions
def test_ended_goals_leave_nothing(asker: Asker, node: tuple[VStreamNode, str]) -> None:
    action = node[0]._question_action

    def held_after(goals: int) -> dict[str, int]:
        """What the process holds after further goals, once the node has dropped their results."""
        for index in range(goals):
            handle = asker.send([], question="What?", max_new_tokens=1)
            if index % 4 == 0:
                handle.cancel_goal_async()
            asker.ends([handle])
        assert not action._goals
        assert wait_until(lambda: asker.robot.spin(0.1) or not action._server._goal_handles), "results are kept"
        files = len(list(Path("/proc/self/fd").iterdir()))
        return {"allocated": allocated_bytes(), "resident": _rss(), "files": files}

    before, after = held_after(WARM_UP_GOALS), held_after(LEAK_GOALS)
    grown = {name: after[name] - before[name] for name in before}
    print(f"{LEAK_GOALS} goals: {grown}")
    assert grown["files"] <= 0
    assert grown["allocated"] < LEAK_BYTES * LEAK_GOALS


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
