"""Several cameras, and compressed ones, through the node as users run it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from robot import NodeProcess, Robot, balanced, new_namespace

from flash_vstream_ros.ros import QoSProfile, ReliabilityPolicy
from flash_vstream_ros.ros.interfaces import CompressedImage, Header, Image, TimeMsg

pytestmark = pytest.mark.slow  # starts nodes in processes of their own

WIDE = ["-p", "model.max_pixels:=50176", "-p", "question.evidence:=8"]  # pixels enough for shapes to differ
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def test_two_cameras_of_different_size_can_be_asked_together_and_alone(tmp_path: Path) -> None:
    topics = ("front/image", "rear/image")
    args = ["-p", "cameras:=[front, rear]", "-p", "summary.period_s:=1.0"]
    with NodeProcess(tmp_path, [*args, *WIDE]) as node, Robot(node.namespace, topics) as robot:
        robot.wait_until_ready()
        for second in range(1, 9, 2):
            robot.see([second, second + 1], (90, 160), "front/image")
            robot.see([second + 0.5, second + 1.5], (160, 120), "rear/image")
        robot.see([9, 10], (60, 80), "front/image")
        status = robot.fresh_status()
        both, rear = (robot.ask(robot.request("What is there?", cameras=names)) for names in ((), ("rear",)))
        unknown = robot.ask(robot.request("What is there?", cameras=["left"]))
        robot.wait_for(lambda: bool(robot.summaries) and robot.summaries[-1].until.sec == 10)
        early = {camera for summary in robot.summaries for camera in summary.cameras}
        robot.see([20, 21], (90, 160), "front/image")
        robot.wait_for(lambda: robot.summaries[-1].until.sec == 21)
        log = node.log
    assert (both.error_code, rear.error_code, unknown.error_code) == (both.NONE, both.NONE, both.INVALID_REQUEST)
    assert {entry.camera for entry in both.evidence} == {"front", "rear"}
    assert {entry.camera for entry in rear.evidence} == {"rear"}
    assert (rear.covered_since.sec, rear.covered_until.sec) == (1, 8)
    shapes = {(entry.camera, thumbnail(entry).shape[:2]) for entry in both.evidence}
    assert shapes <= {("front", (90, 160)), ("front", (60, 80)), ("rear", (160, 120))}
    assert early == {"front", "rear"}
    assert list(robot.summaries[-1].cameras) == ["front"]
    assert status.slots == 9
    assert status.resolution_changes == 1
    assert balanced(status)
    assert "camera rear: images of (160, 120) (height, width): letterboxed" in log


def thumbnail(entry) -> np.ndarray:  # type: ignore[no-untyped-def]
    return cv2.imdecode(np.frombuffer(bytes(entry.thumbnail.data), np.uint8), cv2.IMREAD_COLOR)


def jpeg(stamp_s: int, data: bytes | None = None) -> CompressedImage:
    rgb = np.random.default_rng(stamp_s).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    encoded = cv2.imencode(".jpg", rgb)[1].tobytes() if data is None else data
    header = Header(stamp=TimeMsg(sec=stamp_s), frame_id="optical")
    return CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=encoded)


def test_a_compressed_camera_is_received_and_its_damaged_images_are_counted(tmp_path: Path) -> None:
    args = ["-r", "image:=cam/image_raw", "-p", "image.transport:=compressed"]
    topics = ["cam/image_raw/compressed"]
    with NodeProcess(tmp_path, args) as node, Robot(node.namespace, topics, CompressedImage) as robot:
        robot.wait_until_ready()
        before = robot.drops()
        good = bytes(jpeg(3).data)
        for message in (jpeg(1), jpeg(2), jpeg(3, good[:40]), jpeg(4, good[: len(good) // 2]), jpeg(5), jpeg(6)):
            robot.show(message)
        drops = robot.drops()
        reply = robot.ask(robot.request("What is there?"))
        status = robot.status
    assert (reply.error_code, reply.covered_since.sec, reply.covered_until.sec) == (reply.NONE, 1, 6)
    assert thumbnail(reply.evidence[0]).shape == (120, 160, 3)
    assert drops.pop("truncated") == 2
    assert drops == before
    assert balanced(status)
    assert "has its first image: 160x120 rgb8; jpeg compressed bgr8" in node.log


def test_a_best_effort_camera_is_received_and_an_incompatible_one_is_logged(tmp_path: Path) -> None:
    namespace = new_namespace()
    args = ["-p", "cameras:=[easy, strict]"]
    args += ["-p", f"qos_overrides.{namespace}/strict/image.subscription.reliability:=reliable"]
    with NodeProcess(tmp_path, args, namespace=namespace) as node, Robot(namespace, ["easy/image"]) as robot:
        robot.node.create_publisher(Image, f"{namespace}/easy/image", BEST_EFFORT)
        robot.node.create_publisher(Image, f"{namespace}/strict/image", BEST_EFFORT)
        robot.wait_until_ready()
        name = robot.node.get_name()
        robot.wait_for(lambda: f"/{name} on {namespace}/strict/image is not received: RELIABILITY" in node.log)
        robot.see([1, 2], topic="easy/image")
        assert robot.fresh_status().slots == 1
    assert f"/{name} on {namespace}/easy/image is not received" not in node.log
