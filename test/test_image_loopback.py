"""The doctor's test of large images: its measurement on this machine, and its verdicts."""

from __future__ import annotations

import os

import pytest

from flash_vstream_ros.cli.image_loopback import check_images, judge
from flash_vstream_ros.cli.model_files import FAIL, OK, WARN
from flash_vstream_ros.ros import RUNTIME, middleware


@pytest.mark.parametrize(("received", "state"), [(30, OK), (27, OK), (26, WARN), (0, WARN)])
def test_lost_images_are_a_warning_with_the_remedy(received: int, state: str) -> None:
    check = judge("rmw_some", "", received, 30, "do this")
    assert check.state == state
    assert f"{received} of 30 images of 1280x720 arrived over rmw_some with its default configuration" in check.found
    assert (check.advice.endswith("do this")) == (state == WARN)


def test_images_arrive_with_the_shipped_profile() -> None:
    check = check_images(os.environ, frames=15)
    assert check.state in (OK, WARN), check  # a busy machine loses some
    assert middleware.identifier() in check.found


@pytest.mark.skipif(RUNTIME == "embedded", reason="the embedded runtime configures itself")
def test_the_default_fast_dds_profile_is_reported_to_lose_images() -> None:
    if "fastrtps" not in middleware.identifier():
        pytest.skip("another middleware")
    names = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    check = check_images({name: value for name, value in os.environ.items() if name not in names}, frames=15)
    assert check.state == WARN, check
    assert "with its default configuration" in check.found
    assert "fastdds.xml" in check.advice


def test_a_middleware_that_does_not_start_fails_with_its_reason() -> None:
    check = check_images({**os.environ, "FLASH_VSTREAM_RUNTIME": "none of them"}, frames=1)
    assert check.state == FAIL
    assert "FLASH_VSTREAM_RUNTIME" in check.found
