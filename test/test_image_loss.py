"""Images lost on their way to a camera's subscription: when the loss is detected, and the message about it."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import wait_until
from robot import new_namespace

from flash_vstream_ros.instruments import camera_process
from flash_vstream_ros.node.cameras import Camera
from flash_vstream_ros.node.image_loss import LATE_S, ImageLoss, Lateness, missing_images
from flash_vstream_ros.ros import RUNTIME, MultiThreadedExecutor, Node, init, middleware, try_shutdown

DRIVER = ["/driver"]
# A camera whose process loses images: by a test option (per mille of the datagrams), by Fast DDS's defaults.
LOSSINESS = "<Internal><Test><XmitLossiness>30</XmitLossiness></Test></Internal>"
LOSSY = {
    "embedded": {"CYCLONEDDS_URI": f"<CycloneDDS><Domain>{LOSSINESS}</Domain></CycloneDDS>"},
    "rclpy": {"FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT"},
}


def watch(counted: bool = True) -> ImageLoss:
    return ImageLoss("rmw_some", "/image", counted)


def found(loss: ImageLoss, at_s: float, publishers: Sequence[str] = DRIVER, late_s: float = 0.0) -> str:
    return loss.finding(at_s, publishers, "do this", late_s)


def stream(loss: ImageLoss, seconds: int, received: int, lost: int, start_s: float = 0.0) -> str:
    """The finding at the end of some seconds with a given number of images in each."""
    sentence = found(loss, start_s)
    for second in range(seconds):
        for number in range(received):
            at_s = start_s + second + number / received
            loss.add_received(at_s, at_s)
        loss.add_lost(lost)
        sentence = found(loss, start_s + second + 1)
    return sentence


def arrive(loss: ImageLoss, stamps_s: Sequence[float]) -> str:
    """The finding after images with these stamps arrived at these times."""
    found(loss, stamps_s[0])
    for stamp_s in stamps_s:
        loss.add_received(stamp_s, stamp_s)
    return found(loss, stamps_s[-1])


def test_a_camera_that_loses_most_images_is_reported_with_counts_and_remedy() -> None:
    sentence = stream(watch(), 5, received=3, lost=27)
    assert sentence == "rmw_some lost 135 of the 150 images that /driver sent on /image in the last 5 s: do this"


def test_loss_is_reported_even_if_no_image_arrives() -> None:
    assert "lost 30 of the 30 images" in stream(watch(), 1, received=0, lost=30)


def test_late_callbacks_are_named_as_a_possible_cause_of_loss() -> None:
    loss = watch()
    assert stream(loss, 3, received=3, lost=27).endswith(" last 3 s: do this")
    sentence = found(loss, 3.0, late_s=2 * LATE_S)
    assert f"callbacks of this process are up to {2 * LATE_S} s late" in sentence
    assert sentence.endswith("if images are lost without such delays, do this")
    assert found(watch(), 3.0, late_s=9.0) == ""


def test_the_lateness_of_a_callback_is_its_longest_recent_delay() -> None:
    lateness = Lateness(period_s=0.25)
    assert [lateness.record(at_s) for at_s in (10.0, 10.25, 10.4, 11.5)] == pytest.approx([0.0, 0.0, 0.0, 0.85])
    assert lateness.record(11.75) == pytest.approx(0.85)
    later = [lateness.record(11.75 + number / 4) for number in range(1, 24)]
    assert later[-1] == pytest.approx(0.0)


@pytest.mark.parametrize(("received", "lost"), [(30, 0), (30, 3), (0, 0)], ids=["none", "a tenth", "nothing is sent"])
def test_little_loss_is_not_reported(received: int, lost: int) -> None:
    assert stream(watch(), 10, received, lost) == ""


def test_one_lost_image_of_a_slow_camera_is_not_reported() -> None:
    loss = watch()
    assert stream(loss, 2, received=1, lost=1) == ""
    assert "lost 3 of the 6 images" in stream(loss, 1, received=1, lost=1, start_s=2.0)


def test_loss_is_no_longer_reported_once_images_arrive_again() -> None:
    loss = watch()
    assert stream(loss, 5, received=0, lost=30)
    assert stream(loss, 6, received=30, lost=0, start_s=5.0) == ""


@pytest.mark.parametrize("counted", [True, False])
def test_a_camera_without_a_publisher_loses_nothing(counted: bool) -> None:
    loss = watch(counted)
    assert stream(loss, 3, received=0, lost=30)
    assert found(loss, 4.0, []) == ""
    assert found(loss, 20.0) == ""


def test_silence_is_reported_where_the_middleware_counts_no_loss() -> None:
    loss = watch(counted=False)
    assert stream(loss, 4, received=0, lost=0) == ""
    assert found(loss, 5.0) == ("no image of /driver arrived on /image in the last 5 s; if images are sent: do this")
    loss.add_received(5.2, 1.0)
    assert found(loss, 5.5) == ""


@pytest.mark.parametrize("share", [0.2, 0.3, 0.4])
@pytest.mark.parametrize("seed", range(5))
def test_gaps_in_the_stamps_of_a_periodic_camera_are_lost_images(share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    arrived = [i / 30 + random.normal(0, 0.001) for i in range(150) if random.random() < share]
    sentence = arrive(watch(counted=False), arrived)
    assert "images that /driver sent on /image in the last" in sentence
    assert sentence.endswith("did not arrive: do this")
    assert arrive(watch(counted=True), arrived) == ""


@pytest.mark.parametrize(
    "stamps_s",
    [
        [i / 30 for i in range(150)],
        [i / 30 for i in range(75)] + [2.5 + i / 15 for i in range(38)],
        [i / 15 + j / 1000 for i in range(60) for j in range(2)],
        list(np.cumsum(np.random.default_rng(0).exponential(0.1, 40))),
        [0.0, 2.0, 4.0],
    ],
    ids=["no gap", "half the rate from now on", "two at a time", "as things happen", "too few"],
)
def test_cameras_without_loss_are_not_reported(stamps_s: Sequence[float]) -> None:
    assert arrive(watch(counted=False), stamps_s) == ""


def test_the_images_between_two_stamps_are_counted() -> None:
    stamps_s = [0.0, 0.1, 0.2, 0.5, 0.6, 1.0, 1.2, 1.4, 1.7]
    assert missing_images(stamps_s) == missing_images(stamps_s[::-1]) == 9


@pytest.fixture
def camera() -> Iterator[Camera]:
    init(args=[])
    node, executor = Node("robot", namespace=new_namespace()), MultiThreadedExecutor(num_threads=4)
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    camera = Camera(node, "front", "/lossy/image", SimpleNamespace(offer=lambda _: None, reject=lambda *_: None))
    yield camera
    camera.close()
    executor.shutdown()
    spinning.join()
    node.destroy_node()
    try_shutdown()


def test_images_lost_by_the_middleware_are_reported(camera: Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    rmw = middleware.identifier()
    if RUNTIME == "rclpy" and "fastrtps" not in rmw:
        pytest.skip(f"there is no known setting that makes {rmw} lose images")
    with monkeypatch.context() as lossy:
        for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
            lossy.delenv(name, raising=False)
        for name, value in LOSSY[RUNTIME].items():
            lossy.setenv(name, value)
        driver = camera_process.start("/lossy/image", 640, 480, 15.0, 600)
    try:
        assert wait_until(lambda: any("sent on /lossy/image" in finding for finding in camera.findings), 60.0)
        (finding,) = camera.findings
        assert middleware.remedy(rmw, os.environ) in finding
        assert "_lossy_image_driver sent on /lossy/image" in finding
        assert re.search(r"\d+ of the \d+ images", finding)
    finally:
        driver.kill()
        driver.communicate()
