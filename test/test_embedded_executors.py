"""Executors, callback groups, timers and futures, as rclpy has them."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("cyclonedds")

from conftest import PATIENCE, wait_until

from flash_vstream_ros.ros import (
    MultiThreadedExecutor,
    MutuallyExclusiveCallbackGroup,
    Node,
    ReentrantCallbackGroup,
    SingleThreadedExecutor,
)
from flash_vstream_ros.ros.embedded.clock import ROSClock
from flash_vstream_ros.ros.embedded.task import Future
from flash_vstream_ros.ros.interfaces import String, interface

ClockMsg = interface("rosgraph_msgs/msg/Clock")


@pytest.fixture
def node(ros):
    made = Node("tester", start_parameter_services=False)
    yield made
    made.destroy_node()


@pytest.fixture
def executor(node):
    made = MultiThreadedExecutor(4)
    made.add_node(node)
    thread = threading.Thread(target=made.spin)
    thread.start()
    yield made
    made.shutdown()
    thread.join()


class Overlap:
    """Counts how many callbacks run at once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = self.runs = 0

    def __call__(self, *_):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.03)
        with self.lock:
            self.now -= 1
            self.runs += 1


def test_a_mutually_exclusive_group_runs_one_callback_at_a_time(node, executor):
    overlap, group = Overlap(), MutuallyExclusiveCallbackGroup()
    for _ in range(3):
        node.create_timer(0.01, overlap, group)
    assert wait_until(lambda: overlap.runs >= 12)
    assert overlap.most == 1


def test_the_default_group_of_a_node_is_mutually_exclusive(node, executor):
    overlap = Overlap()
    for _ in range(3):
        node.create_timer(0.01, overlap)
    assert wait_until(lambda: overlap.runs >= 9)
    assert overlap.most == 1


def test_a_reentrant_group_runs_one_callback_several_times_at_once(node, executor):
    overlap = Overlap()
    node.create_timer(0.005, overlap, ReentrantCallbackGroup())
    assert wait_until(lambda: overlap.most >= 2)


def test_two_groups_do_not_wait_for_each_other(node, executor):
    entered, release = threading.Event(), threading.Event()
    ticks = []

    def stuck():
        entered.set()
        release.wait(PATIENCE)

    node.create_timer(0.01, stuck, MutuallyExclusiveCallbackGroup())
    node.create_timer(0.01, lambda: ticks.append(1), MutuallyExclusiveCallbackGroup())
    assert entered.wait(PATIENCE)
    before = len(ticks)
    assert wait_until(lambda: len(ticks) >= before + 5)
    release.set()


def test_frames_are_taken_only_when_a_thread_is_free(node):
    executor = MultiThreadedExecutor(1)
    executor.add_node(node)
    got, release = [], threading.Event()

    def slow(message):
        got.append(message.data)
        release.wait(PATIENCE)

    node.create_subscription(String, "frames", slow, 1)
    publisher = node.create_publisher(String, "frames", 1)
    assert wait_until(publisher.get_subscription_count)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    publisher.publish(String(data="0"))
    assert wait_until(lambda: got == ["0"])
    for number in range(1, 10):
        publisher.publish(String(data=str(number)))
    release.set()
    assert wait_until(lambda: len(got) > 1)
    executor.shutdown()
    thread.join()
    assert got == ["0", "9"]


@pytest.mark.parametrize("kind", [SingleThreadedExecutor, MultiThreadedExecutor])
def test_an_exception_in_a_callback_comes_out_of_spin(node, kind):
    def fail():
        raise RuntimeError("from the callback")

    node.create_timer(0.01, fail)
    executor = kind()
    executor.add_node(node)
    with pytest.raises(RuntimeError, match="from the callback"):
        executor.spin()
    executor.shutdown()


def test_spin_once_runs_one_callback_or_returns_after_the_timeout(node):
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    begin = time.monotonic()
    executor.spin_once(timeout_sec=0.2)
    assert 0.15 < time.monotonic() - begin < PATIENCE
    ticks = []
    node.create_timer(0.0, lambda: ticks.append(1))
    node.create_timer(0.0, lambda: ticks.append(2))
    executor.spin_once(timeout_sec=PATIENCE)
    assert len(ticks) == 1
    executor.spin_once(timeout_sec=PATIENCE)
    assert sorted(ticks) == [1, 2]


def test_shutdown_waits_for_the_callbacks_that_run(node):
    executor = MultiThreadedExecutor(2)
    executor.add_node(node)
    overlap = Overlap()
    node.create_timer(0.001, overlap, ReentrantCallbackGroup())
    thread = threading.Thread(target=executor.spin)
    thread.start()
    assert wait_until(lambda: overlap.now)
    assert executor.shutdown()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert overlap.now == 0


def test_a_node_belongs_to_an_executor_once(node):
    executor = SingleThreadedExecutor()
    assert executor.add_node(node)
    assert not executor.add_node(node)
    assert node.executor is executor
    executor.remove_node(node)
    assert node.executor is None
    assert executor.get_nodes() == []


def test_timers_keep_their_period_and_skip_missed_periods(node):
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.ros_clock.simulate(0)
    stamps = []
    timer = node.create_timer(1.0, lambda: stamps.append(node.get_clock().now().nanoseconds / 10**9))

    def spin_at(*seconds):
        for second in seconds:
            node.ros_clock.simulate(round(second * 10**9))
            executor.spin_once(timeout_sec=0.0)

    spin_at(0.5, 1.0, 1.5, 2.0, 5.2, 5.9, 6.0, 6.1)
    assert stamps == [1.0, 2.0, 5.2, 6.0]
    timer.cancel()
    spin_at(7.0, 9.0)
    assert stamps[4:] == []
    timer.reset()
    spin_at(9.9, 10.0)
    assert stamps[4:] == [10.0]


def test_a_timer_of_negative_period_is_refused(node):
    with pytest.raises(ValueError, match="negative"):
        node.create_timer(-1.0, lambda: None)


def test_futures_keep_results_exceptions_and_cancellation():
    seen = []
    future = Future()
    future.add_done_callback(seen.append)
    assert not future.done()
    future.set_result(3)
    future.add_done_callback(seen.append)
    assert (future.done(), future.result(), seen) == (True, 3, [future, future])
    failed = Future()
    assert failed.result() is None
    failed.set_exception(KeyError("x"))
    with pytest.raises(KeyError):
        failed.result()
    cancelled = Future()
    cancelled.cancel()
    assert (cancelled.done(), cancelled.result()) == (True, None)


def test_spinning_until_a_future_is_done_ends_when_it_is(node):
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    future = Future()
    node.create_timer(0.05, lambda: future.done() or future.set_result("now"))
    executor.spin_until_future_complete(future, timeout_sec=PATIENCE)
    assert future.result() == "now"
    never = Future()
    executor.spin_until_future_complete(never, timeout_sec=0.1)
    assert not never.done()


def test_a_guard_condition_runs_once_for_each_trigger_also_one_before_the_executor_spins(node, request):
    runs = []
    guard = node.create_guard_condition(lambda: runs.append(threading.get_ident()), MutuallyExclusiveCallbackGroup())
    guard.trigger()
    request.getfixturevalue("executor")
    assert wait_until(lambda: len(runs) == 1)
    guard.trigger()
    assert wait_until(lambda: len(runs) == 2)
    assert threading.get_ident() not in runs
    node.destroy_node()
    guard.trigger()
    time.sleep(0.3)
    assert len(runs) == 2


def test_simulated_time_follows_the_clock_topic(ros, executor):
    from flash_vstream_ros.ros import Parameter

    node = Node("sim", parameter_overrides=[Parameter("use_sim_time", value=True)], start_parameter_services=False)
    executor.add_node(node)
    assert node.get_clock().now().nanoseconds == 0
    ticks = []
    timer = node.create_timer(1.0, lambda: ticks.append(node.get_clock().now().nanoseconds))
    clock = node.create_publisher(ClockMsg, "/clock", 1)
    assert wait_until(clock.get_subscription_count)
    message = ClockMsg()
    for second in (10, 11, 5, 6):
        message.clock.sec = second
        clock.publish(message)
        assert wait_until(lambda second=second: timer._called_ns == second * 10**9)  # called, or begun again
    assert wait_until(lambda: ticks[-1:] == [6 * 10**9])
    node.set_parameters([Parameter("use_sim_time", value=False)])
    assert not ROSClock.ros_time_is_active.fget(node.get_clock())
    assert node.get_clock().now().nanoseconds > 10**18
    node.destroy_node()


@pytest.mark.parametrize(
    ("seconds", "ticks"),
    [
        ([10, 10.5, 11, 12.2], [10, 11, 12.2]),
        ([13, 13.5, 13.4, 13.6, 13.5, 13.9, 13.8, 14.1, 14.0, 14.3], [13, 14.1]),  # a clock that flickers
        ([13, 14.5, 14.05, 14.6, 15.1], [13, 14.5, 15.1]),
        ([15.1, 5, 5.5, 5.9, 6.0, 6.5, 7.1], [15.1, 6.0, 7.1]),  # a bag that loops
        ([7, 7300.2, 7300.5, 7301.2], [7, 7300.2, 7301.2]),
        ([7.3, 100, 7.5, 100.3, 7.8, 100.6], [7.3, 100, 100.3, 100.6]),  # two clocks
    ],
)
def test_timers_survive_clock_jumps_as_in_rclpy(ros, seconds, ticks):
    """`ticks` were recorded from rclpy on ROS 2 Jazzy, with a timer of 1 s and a clock that begins at 0."""
    from flash_vstream_ros.ros import Parameter

    node = Node("sim", parameter_overrides=[Parameter("use_sim_time", value=True)], start_parameter_services=False)
    timer = node.create_timer(1.0, lambda: None)
    called = []
    for second in seconds:
        node.ros_clock.simulate(round(second * 10**9))
        if timer.take():
            called.append(second)
    assert called == ticks
    node.destroy_node()
