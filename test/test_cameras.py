"""Cameras over DDS: transports, QoS that follows the publishers, bad images, and cameras that come and go."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import wait_until

from flash_vstream_ros.engine.ingest.mailbox import Frame
from flash_vstream_ros.node.cameras import Camera, camera_topics
from flash_vstream_ros.node.image_qos import unused_overrides
from flash_vstream_ros.ros import (
    Context,
    MultiThreadedExecutor,
    Node,
    Parameter,
    QoSProfile,
    ReliabilityPolicy,
    init,
    try_shutdown,
)
from flash_vstream_ros.ros.images import from_rgb
from flash_vstream_ros.ros.interfaces import CompressedImage, Header, Image, String, TimeMsg
from flash_vstream_ros.ros.private_domain import reserved_domain

SECOND = 1_000_000_000
PATIENCE_S = 120.0
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
IMAGE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)


def wait_for(condition: Callable[[], object]) -> None:
    assert wait_until(condition, PATIENCE_S)


class Robot:
    """A node with cameras, and other nodes that publish, all spun by one thread in a domain of their own."""

    def __init__(self, *ros_args: str, overrides: tuple[Parameter, ...] = ()) -> None:
        self._cleanup = ExitStack()
        self._domain = self._cleanup.enter_context(reserved_domain())
        init(args=["test", "--ros-args", *ros_args], domain_id=self._domain)
        self.frames: list[Frame] = []
        self.rejected: list[tuple[str, str, str]] = []
        self.executor = MultiThreadedExecutor(num_threads=4)
        self.node = self.another("robot", parameter_overrides=list(overrides))
        self._spinning = threading.Thread(target=self.executor.spin)
        self._spinning.start()

    def another(self, name: str, **options: Any) -> Node:
        node = Node(name, **options)
        self.executor.add_node(node)
        return node

    def node_in_own_context(self, name: str) -> Node:
        """A node in a context of its own: within one, Fast DDS allows only one type for each topic."""
        context = Context()
        init(args=[], context=context, domain_id=self._domain)
        self._cleanup.callback(context.try_shutdown)
        node = Node(name, context=context)
        self._cleanup.callback(node.destroy_node)
        return node

    def camera(self, topic: str = "image", kind: type[Camera] = Camera, **options: Any) -> Camera:
        reject = lambda *what: self.rejected.append(what)  # noqa: E731
        return kind(self.node, "front", topic, SimpleNamespace(offer=self.frames.append, reject=reject), **options)

    def stamps(self) -> list[int]:
        return [frame.stamp_ns // SECOND for frame in self.frames]

    def close(self) -> None:
        nodes = self.executor.get_nodes()
        self.executor.shutdown()
        self._spinning.join()
        for node in nodes:
            node.destroy_node()
        try_shutdown()
        self._cleanup.close()


@pytest.fixture
def robots() -> Iterator[Callable[..., Robot]]:
    running: list[Robot] = []

    def start(*ros_args: str, **options: Any) -> Robot:
        running.append(Robot(*ros_args, **options))
        return running[-1]

    yield start
    for robot in running:
        robot.close()


def image(stamp_s: int, **changes: Any) -> Any:
    message = from_rgb(IMAGE, stamp_s * SECOND, "optical", Image)
    for field, value in changes.items():
        setattr(message, field, value)
    return message


def compressed(stamp_s: int, form: str = "rgb8; png compressed bgr8", data: bytes | None = None) -> Any:
    encoded = cv2.imencode(".png", IMAGE[..., ::-1])[1].tobytes() if data is None else data
    return CompressedImage(header=Header(stamp=TimeMsg(sec=stamp_s), frame_id="optical"), format=form, data=encoded)


def show_until_seen(robot: Robot, publisher: Any, make: Callable[[int], Any], stamp_s: int) -> None:
    """Publish with rising stamps until one arrives: a publisher does not learn when it is discovered."""
    stamps = iter(range(stamp_s, stamp_s + 100_000))
    last = 0.0

    def seen() -> bool:
        nonlocal last
        if time.monotonic() - last > 0.1:
            last = time.monotonic()
            publisher.publish(make(next(stamps)))
        return any(stamp >= stamp_s for stamp in robot.stamps())

    wait_for(seen)


def test_one_camera_subscribes_to_image_and_several_to_camera_name_image() -> None:
    assert camera_topics(["front"]) == {"front": "image"}
    assert camera_topics(["front", "rear"]) == {"front": "front/image", "rear": "rear/image"}


@pytest.mark.parametrize(
    ("transport", "topic", "kind", "make"),
    [("raw", "/cam/image_raw", Image, image), ("compressed", "/cam/image_raw/compressed", CompressedImage, compressed)],
)
def test_images_of_either_transport_arrive_at_the_remapped_topic(
    robots: Callable[..., Robot], console: Callable[[], str], transport: str, topic: str, kind: Any, make: Any
) -> None:
    robot = robots("-r", "image:=/cam/image_raw")
    camera = robot.camera(transport=transport)
    assert camera.topic == topic
    publisher = robot.another("driver").create_publisher(kind, topic, BEST_EFFORT)
    show_until_seen(robot, publisher, make, 7)
    frame = robot.frames[0]
    assert (frame.camera, frame.frame_id) == ("front", "optical")
    np.testing.assert_array_equal(frame.decode(), IMAGE)
    wait_for(lambda: "camera 'front' has its first image: 80x60 rgb8" in console())


BAD = {
    "raw": [("zero_size", image(1, width=0)), ("depth_image", image(1, encoding="32FC1", step=320))],
    "compressed": [
        ("undecodable", compressed(1, data=b"no image")),
        ("truncated", compressed(1, data=b"\x89PNG\r\n\x1a\n")),
        ("depth_image", compressed(1, "16UC1; compressedDepth png")),
    ],
}


@pytest.mark.parametrize("transport", BAD)
def test_bad_images_are_dropped_by_reason_and_good_ones_taken(robots: Callable[..., Robot], transport: str) -> None:
    robot = robots()
    camera = robot.camera(transport=transport)
    kind, make = (Image, image) if transport == "raw" else (CompressedImage, compressed)
    publisher = robot.another("driver").create_publisher(kind, camera.topic, RELIABLE)
    show_until_seen(robot, publisher, make, 1)
    for count, (_, message) in enumerate(BAD[transport], 1):
        publisher.publish(message)  # one by one: more than its queue holds would be lost on a busy machine
        wait_for(lambda count=count: len(robot.rejected) == count)
    assert [(camera, reason) for camera, reason, _ in robot.rejected] == [("front", r) for r, _ in BAD[transport]]
    assert all(len(sentence) > 20 for _, _, sentence in robot.rejected)


def test_a_change_of_qos_loses_and_duplicates_no_image(
    robots: Callable[..., Robot],
) -> None:
    robot = robots()
    camera = robot.camera()
    assert not camera.reliable
    driver = robot.another("driver")
    publisher = driver.create_publisher(Image, "image", RELIABLE)
    show_until_seen(robot, publisher, image, 1)
    wait_for(lambda: camera.reliable)
    sent, first = 100_000, 100_001

    def show_while(condition: Callable[[], bool], extra: int = 0) -> None:
        nonlocal sent
        until = time.monotonic() + PATIENCE_S
        while condition() or extra > 0:
            extra -= not condition()
            assert time.monotonic() < until
            sent += 1
            publisher.publish(image(sent))
            wait_for(lambda stamp=sent: stamp in robot.stamps())

    show_while(lambda: False, extra=10)
    modest = driver.create_publisher(Image, "image", BEST_EFFORT)
    show_while(lambda: camera.reliable, extra=20)
    show_until_seen(robot, modest, image, 1_000_000)
    driver.destroy_publisher(modest)
    show_while(lambda: not camera.reliable, extra=20)
    stamps = [stamp for stamp in robot.stamps() if first <= stamp < 1_000_000]
    assert stamps == list(range(first, sent + 1))


def test_two_publishers_of_different_reliability_are_both_received(robots: Callable[..., Robot]) -> None:
    robot = robots()
    driver = robot.another("driver")
    publishers = [driver.create_publisher(Image, "image", qos) for qos in (RELIABLE, BEST_EFFORT)]
    camera = robot.camera()
    for number, publisher in enumerate(publishers):
        show_until_seen(robot, publisher, image, 1 + number * 1_000_000)
    wait_for(lambda: not camera.reliable)
    assert camera.incompatible == ()


def test_an_incompatible_publisher_is_named_with_its_topic_and_policy(
    robots: Callable[..., Robot], console: Callable[[], str]
) -> None:
    robot = robots()
    camera = robot.camera(reliability="reliable")
    driver = robot.another("driver", namespace="/usb")
    publisher = driver.create_publisher(Image, "/image", BEST_EFFORT)
    wait_for(lambda: len(camera.incompatible) == 1)
    wait_for(lambda: "/usb/driver on /image is not received: RELIABILITY" in camera.incompatible[0])
    driver.destroy_publisher(publisher)
    wait_for(lambda: camera.incompatible == ())
    lines = [line for line in console().splitlines() if "/usb/driver on /image is not received" in line]
    assert len(lines) == 1
    assert "camera 'front'" in lines[0]


def test_a_publisher_of_another_type_or_transport_is_reported(robots: Callable[..., Robot]) -> None:
    robot = robots()
    camera = robot.camera()
    driver = robot.another("driver")
    compressed_publisher = driver.create_publisher(CompressedImage, "image/compressed", BEST_EFFORT)
    hint = "/driver on /image/compressed is not received: TRANSPORT: set image.transport to compressed"
    wait_for(lambda: camera.incompatible == (hint,))
    robot.node_in_own_context("speaker").create_publisher(String, "image", 1)
    wait_for(lambda: any("TYPE: it publishes std_msgs/msg/String" in sentence for sentence in camera.incompatible))
    driver.destroy_publisher(compressed_publisher)
    robot.camera(transport="compressed").close()


def test_the_advice_for_a_topic_ending_in_compressed_names_the_publisher_and_the_remapping(
    robots: Callable[..., Robot],
) -> None:
    robot = robots("-r", "image:=cam/image_raw/compressed")
    camera = robot.camera(transport="compressed")
    assert camera.topic == "/cam/image_raw/compressed/compressed"
    robot.another("driver").create_publisher(CompressedImage, "/cam/image_raw/compressed", BEST_EFFORT)
    wait_for(lambda: len(camera.incompatible) == 1)
    assert "/driver on /cam/image_raw/compressed is not received" in camera.incompatible[0]
    assert camera.incompatible[0].endswith("remap image to /cam/image_raw")


def override(policy: str, value: Any, topic: str = "/image") -> Parameter:
    return Parameter(f"qos_overrides.{topic}.subscription.{policy}", value=value)


def test_the_qos_of_a_topic_is_overridden_the_ros_way(robots: Callable[..., Robot]) -> None:
    robot = robots(overrides=(override("reliability", "reliable"), override("depth", 17)))
    camera = robot.camera()
    assert camera.reliable
    assert [subscription.qos_profile.depth for subscription in robot.node.subscriptions if _is_image(subscription)] == [
        17
    ]
    assert robot.node.get_parameter("qos_overrides./image.subscription.history").value == "keep_last"
    robot.another("driver").create_publisher(Image, "image", BEST_EFFORT)
    wait_for(lambda: camera.incompatible)
    assert camera.reliable
    camera.close()
    assert robot.camera().reliable


def test_the_documented_form_of_an_override_is_read_from_a_parameter_file(
    robots: Callable[..., Robot], tmp_path: Path
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference" / "cameras.md").read_text(encoding="utf-8")
    (text,) = (block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "qos_overrides" in block)
    file = tmp_path / "overrides.yaml"
    file.write_text(text.replace("depth: 5", "depth: 9"), encoding="utf-8")
    robot = robots("--params-file", str(file), "-r", "image:=/camera/image_raw")
    assert robot.camera().reliable
    depths = {s.qos_profile.depth for s in robot.node.subscriptions if s.topic_name == "/camera/image_raw"}
    assert depths == {9}


def test_overrides_that_match_no_camera_are_reported(robots: Callable[..., Robot]) -> None:
    overrides = (override("depth", 3), override("depth", 3, "/imgae"), override("deadline", 3))
    robot = robots(overrides=overrides)
    robot.camera()
    assert unused_overrides(robot.node) == [
        "qos_overrides./image.subscription.deadline",
        "qos_overrides./imgae.subscription.depth",
    ]


def test_a_malformed_override_is_reported_and_the_others_are_used(
    robots: Callable[..., Robot], console: Callable[[], str]
) -> None:
    robot = robots(overrides=(override("reliability", "perhaps"), override("depth", "many")))
    camera = robot.camera(reliability="reliable")
    assert camera.reliable
    log = console()
    assert "'qos_overrides./image.subscription.reliability' must be one of auto" in log
    assert "not 'perhaps'" in log
    assert "qos_overrides./image.subscription.depth" in log


def _is_image(subscription: Any) -> bool:
    return bool(subscription.topic_name == "/image")


def test_a_camera_can_be_closed_and_opened_again_and_again(robots: Callable[..., Robot]) -> None:
    robot = robots()
    publisher = robot.another("driver").create_publisher(Image, "image", RELIABLE)
    before = len(list(robot.node.subscriptions)), len(list(robot.node.timers))
    for turn in range(1, 4):
        camera = robot.camera()
        show_until_seen(robot, publisher, image, turn * 1_000_000)
        camera.close()
        camera.close()
        seen = len(robot.frames)
        wait_for(lambda: not any(map(_is_image, robot.node.subscriptions)))
        publisher.publish(image(turn * 1_000_000 + 900_000))
        time.sleep(0.05)
        assert len(robot.frames) == seen
    assert (len(list(robot.node.subscriptions)), len(list(robot.node.timers))) == before


def test_the_publishers_are_watched_while_simulated_time_stands_still(robots: Callable[..., Robot]) -> None:
    robot = robots(overrides=(Parameter("use_sim_time", value=True),))
    camera = robot.camera()
    robot.another("driver").create_publisher(Image, "image", RELIABLE)
    wait_for(lambda: camera.reliable)


def test_an_exception_while_an_image_is_taken_drops_only_that_image(
    robots: Callable[..., Robot], console: Callable[[], str]
) -> None:
    robot = robots()

    class Defective(Camera):
        def _is_duplicate(self, stamp: tuple[int, int]) -> bool:
            if stamp == (1, 0):
                raise ZeroDivisionError("a defect")
            return super()._is_duplicate(stamp)

    robot.camera(kind=Defective)
    publisher = robot.another("driver").create_publisher(Image, "image", RELIABLE)

    def reported() -> bool:
        publisher.publish(image(1))
        return "ZeroDivisionError: a defect" in console()

    wait_for(reported)
    show_until_seen(robot, publisher, image, 2)
    log = console()
    assert log.count("camera 'front': exception in Camera._receive") == log.count("ZeroDivisionError: a defect") == 1
