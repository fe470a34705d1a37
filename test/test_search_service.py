"""The service ~/search as users call it: over DDS, on the runtime that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from robot import NodeProcess, Robot

from flash_vstream_ros.node.requests import DEFAULT_MOMENTS, MAX_MOMENTS, QuestionLimits, search_of
from flash_vstream_ros.ros.interfaces import CompressedImage, DurationMsg, Search, String
from flash_vstream_ros.ros.stamps import seconds, stamp_at

pytestmark = pytest.mark.slow  # starts nodes in processes of their own

WAIT_S = 60.0
JPEG = CompressedImage(data=cv2.imencode(".jpg", np.zeros((60, 80, 3), np.uint8))[1].tobytes())
LIMITS = QuestionLimits(deadline_s=100.0, answer_tokens=50)


class Searcher(Robot):
    """A robot that also searches its node's memory."""

    def search(self, text: str = "red ball", since_s: float = 0.0, **fields: object) -> Search.Response:
        request = Search.Request(text=text, since=stamp_at(since_s), **fields)
        return self.call(Search, f"{self._at}/search", request, WAIT_S)


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    with NodeProcess(tmp_path_factory.mktemp("search")) as node, Searcher(node.namespace) as robot:
        robot.wait_until_ready()
        yield robot


def test_a_search_before_the_first_frame_finds_no_frames(robot: Searcher) -> None:
    reply = robot.search()
    assert reply.error_code == reply.NO_FRAMES
    assert "the memory is empty" in reply.error_msg


def test_the_best_moments_come_with_stamps_camera_and_image(robot: Searcher) -> None:
    robot.see(range(1, 21))
    reply = robot.search(search_id="mine")
    assert (reply.error_code, reply.error_msg, reply.search_id) == (reply.NONE, "", "mine")
    assert len(reply.moments) == DEFAULT_MOMENTS
    scores = [moment.relevance for moment in reply.moments]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0
    for moment in reply.moments:
        stamp = seconds(moment.thumbnail.header.stamp)
        assert seconds(moment.since) <= stamp <= seconds(moment.until)
        assert moment.camera == "camera"
        assert moment.thumbnail.header.frame_id == "camera_optical"
        assert bytes(moment.thumbnail.data[:2]) == b"\xff\xd8"
    assert len({seconds(moment.thumbnail.header.stamp) for moment in reply.moments}) == DEFAULT_MOMENTS
    assert reply.model_kind == reply.MODEL_UNTRAINED
    assert reply.newest_frame.sec == reply.covered_until.sec == 20
    assert reply.memory_tokens > 0
    assert seconds(reply.duration) > 0
    late = robot.search(since_s=15.0, max_moments=2)
    assert [len(late.moments), late.covered_since.sec] == [2, 15]


def test_the_memory_and_the_answers_are_the_same_after_a_search(robot: Searcher) -> None:
    robot.see(range(30, 34))
    before, held = robot.ask(robot.request("What is there?")), robot.list_memory(WAIT_S).entries
    assert robot.search("What is there?").error_code == 0
    assert robot.list_memory(WAIT_S).entries == held
    after = robot.ask(robot.request("What is there?"))
    assert (after.answer, after.memory_tokens) == (before.answer, before.memory_tokens)
    assert after.cached_tokens >= after.memory_tokens


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "  "}, "the search is empty"),
        ({"image": CompressedImage(data=b"no image")}, "image: 8 bytes of format '' (begin with 6e 6f"),
        ({"image": JPEG}, "the search has a text and an image; give one of them"),
        ({"text": "x" * 5000}, "the search has 5000 characters; question.max_chars allows 4096"),
        ({"cameras": ["left"]}, "unknown camera left"),
        ({"since_s": 9.0, "until": stamp_at(8.0)}, "since is later than until"),
        ({"search_id": "no spaces"}, "search_id 'no spaces' must be 1 to 64"),
        ({"deadline": DurationMsg(sec=-1)}, "deadline"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_with_the_reason(
    robot: Searcher, fields: dict[str, object], message: str
) -> None:
    reply = robot.search(**fields)  # type: ignore[arg-type]
    assert reply.error_code == reply.INVALID_REQUEST
    assert message in reply.error_msg
    assert not reply.moments


def test_an_image_finds_what_looks_like_it(robot: Searcher) -> None:
    robot.see(range(50, 54))
    shown = robot.search(since_s=50.0).moments[0].thumbnail
    reply = robot.search("", since_s=50.0, image=shown)
    assert (reply.error_code, reply.error_msg) == (reply.NONE, "")
    assert reply.moments[0].thumbnail.header.stamp == shown.header.stamp
    assert reply.moments[0].relevance > reply.moments[1].relevance
    assert (reply.covered_since.sec, reply.memory_tokens) == (50, 0)


def test_a_search_is_cancelled_by_its_id(robot: Searcher) -> None:
    robot.see(range(40, 44))
    pieces: list[str] = []
    robot.on_piece = pieces.append
    long = robot.request("a long story", max_new_tokens=65535, deadline_s=200.0, stream=True)
    story = robot.service.call_async(long)
    robot.wait_for(lambda: bool(pieces))
    client = robot.node.create_client(Search, f"{robot._at}/search")
    robot.wait_for(client.service_is_ready)
    found = client.call_async(Search.Request(text="red ball", search_id="mine"))

    def cancelled() -> bool:
        robot.cancel.publish(String(data="mine"))
        return bool(found.done())

    robot.wait_for(cancelled)
    reply = found.result()
    assert (reply.error_code, reply.error_msg) == (reply.CANCELLED, "the search was cancelled")
    assert not story.done()
    robot.cancel.publish(String(data="*"))
    robot.wait_for(story.done)


def test_a_node_without_a_model_is_not_ready(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, ["-p", "autostart:=false"]) as node, Searcher(node.namespace) as robot:
        reply = robot.call(Search, f"{robot._at}/search", Search.Request(text="red ball"), 200.0)
    assert reply.error_code == reply.NOT_READY
    assert "configure" in reply.error_msg


def test_a_request_is_reduced_to_the_limits_of_the_node() -> None:
    search, adjustments = search_of(Search.Request(text="x", max_moments=1000), "s", LIMITS)
    assert (search.moments, adjustments) == (MAX_MOMENTS, (f"max_moments reduced from 1000 to {MAX_MOMENTS}",))
    search, adjustments = search_of(Search.Request(text="x", deadline=DurationMsg(sec=101)), "s", LIMITS)
    assert (search.deadline_s, search.moments) == (100.0, DEFAULT_MOMENTS)
    assert adjustments == ("deadline reduced from 101 s to question.max_deadline_s = 100 s",)
