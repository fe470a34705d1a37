"""Parameters of a running node, set over DDS as `ros2 param` does: changes, and refusals with their reasons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from robot import NodeProcess, Robot, balanced

from flash_vstream_ros.node.parameter_table import PARAMETERS
from flash_vstream_ros.ros import Parameter
from flash_vstream_ros.ros.interfaces import String, interface

pytestmark = pytest.mark.slow  # starts nodes in processes of their own

DEFAULTS = {
    spec.name: spec.default
    for spec in PARAMETERS
    if spec.live and spec.name not in ("status.period_s", "summary.period_s", "question.max_new_tokens")
}


class Operator(Robot):
    """A robot that also has the clients behind `ros2 param`."""

    def __enter__(self) -> Operator:
        super().__enter__()
        self._clients: dict[str, Any] = {}
        return self

    def call(self, kind: str, **fields: Any) -> Any:
        service = interface(f"rcl_interfaces/srv/{kind}")
        if kind not in self._clients:
            name = "".join("_" + letter.lower() if letter.isupper() else letter for letter in kind).strip("_")
            self._clients[kind] = self.node.create_client(service, f"{self._at}/{name}")
            assert self._clients[kind].wait_for_service(timeout_sec=60.0)
        future = self._clients[kind].call_async(service.Request(**fields))
        self.wait_for(future.done)
        return future.result()

    def set(self, **values: Any) -> Any:
        """All at once; `group__name` stands for group.name."""
        return self.call("SetParametersAtomically", parameters=messages(values)).result

    def set_each(self, **values: Any) -> list[Any]:
        return list(self.call("SetParameters", parameters=messages(values)).results)

    def get(self, name: str) -> Any:
        (value,) = self.call("GetParameters", names=[name]).values
        holder = interface("rcl_interfaces/msg/Parameter")(name=name, value=value)
        return Parameter.from_parameter_msg(holder).value


def messages(values: dict[str, Any]) -> list[Any]:
    return [Parameter(name.replace("__", "."), value=value).to_parameter_msg() for name, value in values.items()]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("live")) as process:
        yield process


@pytest.fixture(scope="module")
def connected(node: NodeProcess) -> Iterator[Operator]:
    with Operator(node.namespace) as robot:
        robot.wait_until_ready()
        yield robot


@pytest.fixture
def robot(connected: Operator) -> Iterator[Operator]:
    yield connected
    defaults = connected.set(**{name.replace(".", "__"): value for name, value in DEFAULTS.items()})
    assert defaults.successful, defaults.reason


def see_more(robot: Operator, count: int) -> None:
    start = robot.fresh_status().newest_frame.sec + 1
    robot.see(range(start, start + count))


def test_descriptors_give_the_range_and_whether_it_can_change(robot: Operator) -> None:
    names = [spec.name for spec in PARAMETERS]
    described = robot.call("DescribeParameters", names=names).descriptors
    for spec, descriptor in zip(PARAMETERS, described, strict=True):
        assert (descriptor.name, descriptor.description) == (spec.name, spec.description)
        assert descriptor.read_only is not spec.live
        ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
        assert [(bounds.from_value, bounds.to_value) for bounds in ranges] == (
            [] if spec.limits is None else [spec.limits]
        )


def test_every_live_parameter_can_be_set_to_its_current_value(robot: Operator) -> None:
    for spec in PARAMETERS:
        if spec.live:
            (result,) = robot.set_each(**{spec.name.replace(".", "__"): robot.get(spec.name)})
            assert result.successful, f"{spec.name}: {result.reason}"


@pytest.mark.parametrize("spec", [spec for spec in PARAMETERS if not spec.live], ids=lambda spec: spec.name)
def test_parameters_read_at_start_are_refused_with_the_reason(robot: Operator, spec: Any) -> None:
    before = robot.get(spec.name)
    (result,) = robot.set_each(**{spec.name.replace(".", "__"): spec.default})
    assert not result.successful
    remedy = "start" if spec.initial else "configure"
    assert result.reason == f"'{spec.name}' is read at start: {remedy} the node again"
    assert robot.get(spec.name) == before


@pytest.mark.parametrize(
    ("values", "reasons"),
    [
        ({"sample_fps": 2}, ["'sample_fps' must be a double, such as 1.0, not 2"]),
        ({"sample_fps": float("nan")}, ["'sample_fps' must be from 0.01 to 60.0, not nan"]),
        ({"question__queue": 0}, ["'question.queue' must be from 1 to 64, not 0"]),
        ({"question__queue": True}, ["'question.queue' must be an integer, not True"]),
        ({"summary__prompt": 5}, ["'summary.prompt' must be a string, not 5"]),
        ({"memory__key_frame_slots": 61}, ["'memory.key_frame_slots' is 61, more than 'memory.synopsis_slots', 60"]),
        ({"memory__synopsis_slots": 29}, ["'memory.key_frame_slots' is 30, more than 'memory.synopsis_slots', 29"]),
        (
            {"model__name": "other", "sample_fps": 99.0, "question__evidence": "3", "question__queue": 8},
            [
                "'model.name' is read at start",
                "'sample_fps' must be from",
                "'question.evidence' must be an integer",
            ],
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_bad_value_is_refused_with_every_reason_and_nothing_is_changed(
    robot: Operator, values: dict[str, Any], reasons: list[str]
) -> None:
    names = [name.replace("__", ".") for name in values]
    before = [robot.get(name) for name in names]
    result = robot.set(**values)
    assert not result.successful
    assert len(result.reason.split("; ")) == len(reasons)
    for reason in reasons:
        assert reason in result.reason
    assert [robot.get(name) for name in names] == before


def test_a_parameter_that_does_not_exist_is_refused_without_effect(robot: Operator, node: NodeProcess) -> None:
    assert not robot.set(sample_fsp=1.0).successful
    results = robot.set_each(sample_fsp=1.0, question__evidence=2)
    assert [result.successful for result in results] == [False, True]
    assert robot.ask(robot.request("Still there?")).error_code in (0, 2)
    assert "Traceback" not in node.log


def test_the_memory_size_changes_while_a_camera_streams(robot: Operator) -> None:
    see_more(robot, 30)
    before = robot.fresh_status()
    assert (before.memory_capacity, before.memory_entries > 20) == (90, True)
    assert robot.set(memory__synopsis_slots=5, memory__key_frame_slots=2).successful
    robot.wait_for(lambda: robot.status.memory_capacity == 7)
    small = robot.fresh_status()
    assert small.memory_entries == 7
    assert small.memory_bytes < before.memory_bytes
    assert small.covered_since == before.covered_since
    assert robot.ask(robot.request("What is there?")).memory_tokens == small.memory_tokens
    assert robot.set(memory__synopsis_slots=8, memory__key_frame_slots=8, memory__recent_slots=4).successful
    robot.wait_for(lambda: robot.status.memory_capacity == 16)
    see_more(robot, 12)
    assert robot.fresh_status().memory_entries > 7
    assert balanced(robot.status)


def test_the_sampling_rate_changes_at_run_time(robot: Operator) -> None:
    assert robot.set(sample_fps=0.5).successful
    before = robot.fresh_status()
    see_more(robot, 10)
    status = robot.fresh_status()
    assert status.frames_not_sampled - before.frames_not_sampled == 5


def test_question_limits_change_at_run_time(robot: Operator) -> None:
    see_more(robot, 2)
    assert robot.set(question__max_chars=5, question__evidence=1).successful
    assert "question.max_chars allows 5" in robot.ask(robot.request("too long")).error_msg
    assert len(robot.ask(robot.request("What?")).evidence) == 1
    assert robot.set(question__max_new_tokens=60_000).reason == (
        "'question.max_new_tokens' must be from 1 to 4096, not 60000"
    )
    assert robot.set(
        question__max_new_tokens=4096, question__max_answer_tokens=4096, question__deadline_s=0.2
    ).successful
    assert robot.ask(robot.request("Tell!")).error_code == 4
    assert robot.set(question__max_new_tokens=8, question__max_answer_tokens=8, question__deadline_s=30.0).successful
    reply = robot.ask(robot.request("Tell!", max_new_tokens=9))
    assert list(reply.adjustments) == ["max_new_tokens reduced from 9 to question.max_answer_tokens = 8"]


def test_the_instruction_changes_at_run_time(robot: Operator) -> None:
    see_more(robot, 2)
    before = robot.ask(robot.request("What is there?")).answer
    assert robot.set(model__instruction="Say only where the robot is.").successful
    assert robot.ask(robot.request("What is there?")).answer != before


def test_periods_change_at_run_time_and_zero_stops_summaries(robot: Operator) -> None:
    assert not robot.summaries
    assert robot.set(summary__period_s=0.2, summary__prompt="What changed?", summary__max_new_tokens=2).successful
    see_more(robot, 4)
    robot.wait_for(lambda: bool(robot.summaries))
    assert robot.set(summary__period_s=0.0).successful
    assert robot.set(status__period_s=60.0).successful

    def quiet() -> bool:
        last = robot.status
        robot.spin(1.0)
        return robot.status is last

    robot.wait_for(quiet)  # messages sent before have arrived
    last = robot.status
    assert robot.set(status__period_s=0.05).successful
    robot.wait_for(lambda: robot.status is not last)


def test_a_longer_queue_delays_no_camera_or_status_and_loses_no_question(robot: Operator) -> None:
    see_more(robot, 2)
    # None of them is BUSY, even if the worker has taken none from the queue when the last one arrives.
    assert robot.set(question__queue=25, question__deadline_s=120.0).successful
    before = robot.fresh_status().questions_failed
    asked = [robot.service.call_async(robot.request("A long story", max_new_tokens=60_000)) for _ in range(25)]
    see_more(robot, 2)
    assert not any(future.done() for future in asked)

    def cancelled() -> int:
        robot.cancel.publish(String(data="*"))
        return int(robot.fresh_status().questions_failed - before)

    robot.wait_for(lambda: cancelled() == len(asked))
