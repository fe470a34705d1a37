"""A bad camera, parameter, model or neighbour costs the node a message and a count, nothing else."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_until
from robot import SECOND, START_S, NodeProcess, Robot, balanced, new_namespace

from flash_vstream_ros.client import CALL_QOS
from flash_vstream_ros.engine.ingest.mailbox import Mailbox
from flash_vstream_ros.instruments.running_node import running_node
from flash_vstream_ros.models.tiny import save_tiny
from flash_vstream_ros.node.vstream_node import VStreamNode
from flash_vstream_ros.ros.images import from_rgb
from flash_vstream_ros.ros.interfaces import AskScene, Image, ListMemory, String, TimeMsg, interface

pytestmark = pytest.mark.slow  # starts nodes in processes of their own

Clock = interface("rosgraph_msgs/msg/Clock")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("faults")) as process:
        yield process


@pytest.fixture(scope="module")
def robot(node: NodeProcess) -> Iterator[Robot]:
    with Robot(node.namespace) as robot:
        robot.wait_until_ready()
        yield robot


def image(stamp_s: int, **changes) -> Image:  # type: ignore[no-untyped-def]
    message = from_rgb(np.full((60, 80, 3), 128, np.uint8), stamp_s * SECOND, "", Image)
    for field, value in changes.items():
        setattr(message, field, value)
    return message


def nan_depth(stamp_s: int) -> Image:
    data = np.full((60, 80), np.nan, np.float32).tobytes()
    return image(stamp_s, encoding="32FC1", step=320, data=data)


BAD_IMAGES: list[tuple[str, Callable[[], Image]]] = [
    ("zero_size", lambda: image(10_000, width=0)),
    ("zero_size", lambda: image(10_000, height=0, data=b"")),
    ("truncated", lambda: image(10_000, data=b"\0" * 100)),
    ("truncated", lambda: image(10_000, data=b"")),
    ("wrong_step", lambda: image(10_000, step=10)),
    ("unknown_encoding", lambda: image(10_000, encoding="klingon8")),
    ("unknown_encoding", lambda: image(10_000, encoding="")),
    ("depth_image", lambda: nan_depth(10_000)),
    ("zero_stamp", lambda: image(0)),
    ("stamp_not_newer", lambda: image(1)),
]


def test_bad_images_are_counted_by_reason_and_good_ones_between_them_ingested(robot: Robot, node: NodeProcess) -> None:
    before, slots = Counter(robot.drops()), robot.status.slots
    for index, (_, make) in enumerate(BAD_IMAGES):
        robot.see([100 + 10 * index, 101 + 10 * index])
        robot.show(make())
    robot.see([1000, 1001])
    dropped = Counter(robot.drops()) - before
    assert dropped == Counter(reason for reason, _ in BAD_IMAGES)
    assert robot.status.slots == slots + len(BAD_IMAGES) + 1
    assert balanced(robot.status)
    assert robot.status.last_error
    assert robot.ask(robot.request("Still there?")).error_code == 0
    assert node.process.poll() is None
    assert node.log.count("dropped frame") >= len(dropped)


def test_big_endian_16_bit_images_are_read_in_their_byte_order(robot: Robot) -> None:
    start = robot.fresh_status().newest_frame.sec + 10
    slots = robot.status.slots
    grey = np.full((60, 80), 0x80FF, ">u2").tobytes()
    for stamp in (start, start + 1):
        robot.show(image(stamp, encoding="mono16", is_bigendian=1, step=160, data=grey))
    assert robot.fresh_status().slots == slots + 1


def test_a_resolution_change_in_mid_stream_is_ingested(robot: Robot, node: NodeProcess) -> None:
    start = robot.fresh_status().newest_frame.sec + 10
    slots = robot.status.slots
    robot.see([start, start + 1], shape=(120, 160))
    robot.see([start + 2, start + 3], shape=(240, 200))
    robot.see([start + 4, start + 5], shape=(64, 64))
    assert robot.fresh_status().slots == slots + 3
    assert robot.ask(robot.request("Still there?")).error_code == 0
    assert "image size changed" in node.log


def test_a_question_before_the_first_frame_is_answered_no_frames(tmp_path: Path) -> None:
    with NodeProcess(tmp_path) as node, Robot(node.namespace) as robot:
        reply = robot.ask_when_ready(robot.request("What is there?"), START_S)
    assert reply.error_code == reply.NO_FRAMES
    assert "the memory is empty" in reply.error_msg


def broken_model(folder: Path, what: str) -> str:
    if what == "missing":
        return str(folder / "nowhere")
    model = save_tiny(folder / "model")
    if what == "corrupt":
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    return str(model)


@pytest.mark.parametrize(("what", "reason"), [("missing", "nowhere"), ("corrupt", "model.safetensors")])
def test_a_node_whose_model_fails_to_load_keeps_running_and_says_why(tmp_path: Path, what: str, reason: str) -> None:
    model = broken_model(tmp_path, what)
    with NodeProcess(tmp_path, model=model) as node, Robot(node.namespace) as robot:
        reply = robot.ask_when_ready(robot.request("What is there?"), START_S)
        robot.wait_for(lambda: robot.status is not None and robot.status.state == robot.status.FAILED)
        assert robot.status.last_error in reply.error_msg
        assert node.process.poll() is None
        assert reason in node.log
    assert reply.error_code == reply.NOT_READY
    assert reason in reply.error_msg


def test_a_model_folder_is_loaded_by_its_path(tmp_path: Path) -> None:
    model = broken_model(tmp_path, "whole")
    with NodeProcess(tmp_path, model=model) as node, Robot(node.namespace) as robot:
        robot.wait_until_ready()
        robot.see([1, 2])
        robot.fresh_status()
        assert robot.ask(robot.request("What is there?")).error_code == 0
        assert robot.status.model == model


def test_a_missing_cuda_device_is_reported(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    args = ["-p", "model.device:=cuda"]
    with NodeProcess(tmp_path, args) as node, Robot(node.namespace) as robot:
        reply = robot.ask_when_ready(robot.request("What is there?"), START_S)
    assert reply.error_code == reply.NOT_READY
    assert "cuda" in reply.error_msg.lower()


def test_wrong_parameters_are_reported_and_replaced_by_defaults(tmp_path: Path) -> None:
    parameters = {
        "sample_fsp": "2.0",
        "sample_fps": "5",
        "memory.synopsis_slots": "-3",
        "model.dtype": "float7",
        "question.deadline_s": "soon",
    }
    args = []
    for name, value in parameters.items():
        args += ["-p", f"{name}:={value}"]
    with NodeProcess(tmp_path, args) as node, Robot(node.namespace) as robot:
        robot.wait_until_ready()
        log = node.log
        assert robot.status.memory_capacity == 90 or robot.status.slots == 0
        assert robot.status.state == robot.status.READY
    for name in parameters:
        assert repr(name) in log
    assert "did you mean 'sample_fps'" in log


def test_a_parameter_file_for_another_node_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("vstream_node:\n  ros__parameters:\n    sample_fps: 2.0\n", encoding="utf-8")
    with NodeProcess(tmp_path, ["--params-file", str(file)]) as node:
        assert wait_until(lambda: "its sections are /vstream_node" in node.log, START_S)


def test_a_restarted_simulation_does_not_silence_the_node(tmp_path: Path) -> None:
    args = ["-p", "use_sim_time:=true"]
    with NodeProcess(tmp_path, args) as node, Robot(node.namespace) as robot:
        clock = robot.node.create_publisher(Clock, "/clock", 10)

        def run_clock_from(begin_s: int) -> None:
            tenths = itertools.count(begin_s * 10)

            def status_arrived() -> bool:
                second, tenth = divmod(next(tenths), 10)
                clock.publish(Clock(clock=TimeMsg(sec=second, nanosec=tenth * SECOND // 10)))
                return robot.status is not None and begin_s < robot.status.header.stamp.sec < begin_s + 900

            robot.wait_for(status_arrived, 120.0)

        for begin_s in (1000, 5, 7000, 3):
            run_clock_from(begin_s)


def test_a_clock_out_of_range_is_ignored(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, ["-p", "use_sim_time:=true"]) as node, Robot(node.namespace) as robot:
        clock = robot.node.create_publisher(Clock, "/clock", 10)
        tenths = itertools.count(1000)

        def run(times: Iterable[tuple[int, int]]) -> None:
            """Publish each time until the node has published a newer status."""
            for sec, nanosec in times:
                before = robot.status

                def status_arrived(sec: int = sec, nanosec: int = nanosec, before: object = before) -> bool:
                    clock.publish(Clock(clock=TimeMsg(sec=sec, nanosec=nanosec)))
                    second, tenth = divmod(next(tenths), 10)
                    clock.publish(Clock(clock=TimeMsg(sec=second, nanosec=tenth * SECOND // 10)))
                    return robot.status is not before

                robot.wait_for(status_arrived, 120.0)

        run([(99, 0)])
        run([(2**31 - 1, 2**32 - 1), (-(2**31), 0), (5, 2**32 - 1), (-1, 2**32 - 1), (2**31 - 1, SECOND - 1), (0, 0)])
        assert robot.ask_when_ready(robot.request("Still there?"), START_S).error_code in (0, 2)
        assert node.process.poll() is None


def test_a_second_node_of_the_same_name_is_reported(tmp_path: Path) -> None:
    space = new_namespace()
    with (
        NodeProcess(tmp_path, namespace=space) as first,
        NodeProcess(tmp_path, namespace=space) as second,
        Robot(space) as robot,
    ):
        robot.wait_until_ready()
        robot.wait_for(lambda: f"another node is called {space}/flash_vstream" in first.log + second.log)
        assert robot.ask(robot.request("Who answers?")).error_code in (0, 1, 2)
        assert "start one of them with --ros-args -r __ns:=/NAMESPACE" in first.log + second.log


def test_another_node_that_offers_the_same_service_is_reported(tmp_path: Path) -> None:
    space = new_namespace()
    with (
        NodeProcess(tmp_path, namespace=space) as first,
        NodeProcess(tmp_path, ["-r", "__node:=other"], namespace=space) as second,
    ):
        # Of nodes that start at the same moment, rmw_fastrtps may never learn the names.
        wait_until(lambda: f"offers {space}/ask_scene too" in first.log, START_S)
        wait_until(lambda: f"offers {space}/ask_scene too" in second.log, START_S)
        for log, other in ((first.log, f"{space}/other"), (second.log, f"{space}/flash_vstream")):
            assert any(f"{name} offers {space}/ask_scene too" in log for name in (other, "a node of unknown name"))


@pytest.mark.parametrize(("below", "remaps"), [("/second", ""), ("", "-r __node:=other -r ask_scene:=ask_other")])
def test_the_advice_of_the_duplicate_warning_works(tmp_path: Path, below: str, remaps: str) -> None:
    space = new_namespace()
    with (
        NodeProcess(tmp_path, namespace=space) as first,
        NodeProcess(tmp_path, remaps.split(), namespace=space + below) as second,
        Robot(space) as robot,
    ):
        robot.wait_until_ready()
        wait_until(lambda: "ready: tiny-random" in second.log, START_S)
        robot.spin(3.0)
        assert "either may answer" not in first.log + second.log


def test_each_of_many_concurrent_calls_gets_a_reply(robot: Robot, node: NodeProcess) -> None:
    lists = robot.node.create_client(ListMemory, f"{node.namespace}/flash_vstream/list_memory", qos_profile=CALL_QOS)
    robot.wait_for(lists.service_is_ready)
    for client, make in ((robot.service, lambda: robot.request("What?")), (lists, ListMemory.Request)):
        asked = [client.call_async(make()) for _ in range(300)]
        robot.wait_for(lambda asked=asked: all(future.done() for future in asked))
        codes = {future.result().error_code for future in asked}
        assert codes <= {AskScene.Response.NONE, AskScene.Response.BUSY, AskScene.Response.NO_FRAMES}


def test_an_encoding_cannot_forge_a_log_line(robot: Robot, node: NodeProcess) -> None:
    forged = "x\n[INFO] [1.0] [flash_vstream]: FORGED\n\x1b[31m"
    robot.show(image(robot.fresh_status().newest_frame.sec + 10, encoding=forged))
    robot.cancel.publish(String(data=forged))
    robot.wait_for(lambda: "cancelled nothing" in node.log)
    assert "FORGED" in node.log
    assert not any(line.startswith("[INFO] [1.0]") for line in node.log.splitlines())
    assert "\x1b" not in node.log
    assert "\x1b" not in robot.status.last_error


def test_a_summary_is_latched_for_late_listeners(tmp_path: Path) -> None:
    args = ["-p", "summary.period_s:=1.0"]
    with NodeProcess(tmp_path, args) as node:
        with Robot(node.namespace) as robot:
            robot.wait_until_ready()
            robot.see(range(1, 7))
            robot.wait_for(lambda: sum(summary.frames for summary in robot.summaries) == 6)
            assert not robot.answers
        with Robot(node.namespace) as late:
            late.wait_for(lambda: bool(late.summaries))
            summary = late.summaries[-1]
    assert summary.text.startswith("[untrained]")
    assert list(summary.cameras) == ["camera"]
    assert summary.header.stamp.sec == summary.until.sec == 6
    assert summary.header.frame_id == "camera_optical"
    assert 0 <= summary.novelty <= 1


def test_an_exception_in_a_callback_gets_an_error_reply_and_does_not_end_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[object] = []

    def defect(*given: object) -> None:
        called.append(given)
        raise ZeroDivisionError("a defect")

    space = new_namespace()
    args = ["test", "--ros-args", "-p", "model.name:=tiny-random", "-r", f"__ns:={space}"]
    with running_node(VStreamNode, args) as (node, spinning), Robot(space) as robot:
        robot.wait_until_ready()
        monkeypatch.setattr(Mailbox, "offer", defect)
        robot.images.publish(image(1))
        robot.wait_for(lambda: bool(called))
        monkeypatch.setattr(node._engine, "ask", defect)
        reply = robot.ask(robot.request("Still there?"))
        assert reply.error_code == reply.INTERNAL
        monkeypatch.undo()
        assert robot.ask(robot.request("Still there?")).error_code == reply.NO_FRAMES
        assert spinning.is_alive()
