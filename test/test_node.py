"""The node as users run it: in its own process, with images and questions over DDS."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from robot import SECOND, START_S, NodeProcess, Robot, balanced, new_namespace

from flash_vstream_ros.ros.images import from_rgb
from flash_vstream_ros.ros.interfaces import AnswerPiece, Image, String, to_dict
from flash_vstream_ros.ros.stamps import duration_ns

pytestmark = pytest.mark.slow  # starts nodes in processes of their own

SHARED_CLIP = Path(__file__).parents[2] / "shared" / "data" / "vtest.avi"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("node"), namespace="") as process:
        yield process


@pytest.fixture(scope="module")
def robot(node: NodeProcess) -> Iterator[Robot]:
    with Robot() as robot:
        robot.wait_until_ready()
        yield robot


def stamp_ns(stamp) -> int:  # type: ignore[no-untyped-def]
    return stamp.sec * SECOND + stamp.nanosec


def test_a_question_is_answered_from_the_camera_images(robot: Robot) -> None:
    robot.see([100 + i for i in range(10)])
    robot.fresh_status()
    reply = robot.ask(robot.request("What is there?"))
    assert (reply.error_code, reply.error_msg) == (reply.NONE, "")
    assert reply.answer.startswith("[untrained]")
    assert 0 < reply.token_probability <= 1
    assert (reply.confidence, reply.calibrated) == (reply.token_probability, False)
    assert stamp_ns(reply.covered_since) == 100 * SECOND
    assert stamp_ns(reply.covered_until) == stamp_ns(reply.newest_frame) == 109 * SECOND
    assert len(reply.evidence) == 3
    best = reply.evidence[0]
    assert best.camera == "camera"
    assert best.thumbnail.header.frame_id == "camera_optical"
    assert cv2.imdecode(np.frombuffer(bytes(best.thumbnail.data), np.uint8), cv2.IMREAD_COLOR).shape == (120, 160, 3)
    assert 0 < stamp_ns(reply.time_to_first_token) <= stamp_ns(reply.duration)


def test_the_status_accounts_for_every_frame(robot: Robot) -> None:
    before = robot.fresh_status()
    robot.see([200 + i / 5 for i in range(50)])
    robot.see([0.0, 150.0])
    status = robot.fresh_status()
    assert status.frames_received - before.frames_received == 52
    assert status.frames_encoded - before.frames_encoded == 10
    assert status.frames_not_sampled - before.frames_not_sampled == 40
    assert {"zero_stamp", "stamp_not_newer"} <= set(status.drop_reasons)
    assert sum(status.drop_counts) == status.frames_dropped
    assert balanced(status)
    assert status.state == status.READY
    assert 0 < status.memory_entries <= status.memory_capacity
    assert status.memory_tokens > 0 < status.memory_bytes
    assert 0 < duration_ns(status.encode_p50) <= duration_ns(status.encode_p95)


def test_the_status_and_the_reply_report_the_cached_tokens(robot: Robot) -> None:
    robot.see([280, 281, 290, 291])
    robot.wait_for(lambda: stamp_ns(robot.status.cached_until) == 291 * SECOND)
    robot.ask(robot.request("What is there?"))  # the text after the memory is in the cache then too
    before = robot.fresh_status()
    assert before.cached_until == before.covered_until
    cached = robot.ask(robot.request("What is there?"))
    uncached = robot.ask(robot.request("What is there?", since_s=285))
    status = robot.fresh_status()
    assert cached.memory_tokens < cached.cached_tokens == before.cached_tokens
    assert (uncached.error_code, uncached.cached_tokens, uncached.lag_slots, cached.lag_slots) == (0, 0, 0, 0)
    assert status.questions_cached - before.questions_cached == 1
    assert status.questions_answered - before.questions_answered == 2
    assert status.prefix_cache_bytes == before.prefix_cache_bytes > 0
    assert status.prefix_cache_failures == 0
    assert 0 < duration_ns(status.first_token_p50) <= duration_ns(status.first_token_p95)


def test_twenty_questions_during_10_hz_frames_are_answered(robot: Robot) -> None:
    before = robot.fresh_status()
    sent = 0
    done = threading.Event()
    image = np.random.default_rng(1).integers(0, 255, (120, 160, 3), dtype=np.uint8)

    def publish() -> None:
        nonlocal sent
        while not done.wait(0.1):
            if robot.status.frames_received - before.frames_received < sent - 3:
                continue  # the node is held up, and its queue holds five
            robot.images.publish(from_rgb(image, 300 * SECOND + sent * SECOND // 10, "", Image))
            sent += 1

    camera = threading.Thread(target=publish)
    camera.start()
    replies = [robot.ask(robot.request(f"Question {i}?", deadline_s=60.0)) for i in range(20)]
    done.set()
    camera.join()
    status = robot.fresh_status()
    assert [reply.error_code for reply in replies] == [0] * 20
    assert status.frames_received - before.frames_received == sent
    assert status.questions_answered - before.questions_answered == 20
    assert balanced(status)


def test_questions_and_answers_can_be_exchanged_as_strings(robot: Robot) -> None:
    robot.wait_for(lambda: robot.questions.get_subscription_count() > 0)
    robot.questions.publish(String(data="What is there?"))
    robot.wait_for(lambda: len(robot.answers) == 1)
    robot.questions.publish(String(data=""))
    robot.wait_for(lambda: len(robot.answers) == 2)
    assert robot.answers[0].startswith("[untrained]")
    assert robot.answers[1] == "[INVALID_REQUEST] the question is empty"


def test_an_answer_is_streamed_during_generation(robot: Robot) -> None:
    pieces: list[str] = []
    robot.on_piece = pieces.append
    reply = robot.ask(robot.request("What is there?", stream=True))
    robot.wait_for(lambda: "".join(pieces).rstrip() == reply.answer)
    assert len(pieces) > 2


def see_something(robot: Robot) -> None:
    """Let the node ingest one more slot, so that a test does not depend on those before it."""
    start = robot.fresh_status().newest_frame.sec + 1
    robot.see([start, start + 1])


def gets_whole_answers(client: Robot, pieces: list[str]) -> bool:
    """Returns True if all `pieces` of an answer arrive: the node has found the client's subscription then."""
    pieces.clear()
    answer = client.ask(client.request("ready?", stream=True)).answer
    with suppress(AssertionError):
        client.wait_for(lambda: "".join(pieces).rstrip() == answer, 1.0)
    return "".join(pieces).rstrip() == answer


def test_a_client_gets_the_pieces_of_its_own_answers_only(robot: Robot) -> None:
    see_something(robot)
    received: dict[str, list[AnswerPiece]] = defaultdict(list)
    topic = "/flash_vstream/answer_stream"
    robot.node.create_subscription(AnswerPiece, topic, lambda piece: received[piece.question_id].append(piece), 100)
    with Robot() as other:
        own: list[str] = []
        foreign: list[str] = []
        robot.on_piece, other.on_piece = own.append, foreign.append
        robot.wait_for(lambda: gets_whole_answers(robot, own) and bool(received))
        robot.wait_for(lambda: gets_whole_answers(other, foreign))
        own.clear()
        foreign.clear()
        received.clear()
        requests = [client.request(text, stream=True) for client, text in ((robot, "What?"), (other, "Who?"))]
        asked = [client.service.call_async(request) for client, request in zip((robot, other), requests, strict=True)]
        robot.wait_for(asked[0].done)
        asked_ids = [request.question_id for request in requests]
        robot.wait_for(lambda: all(received[each] and received[each][-1].last for each in asked_ids))
        robot.wait_for(lambda: "".join(own).rstrip() == asked[0].result().answer)
        other.wait_for(asked[1].done)
        other.wait_for(lambda: "".join(foreign).rstrip() == asked[1].result().answer)
    robot.on_piece = None
    replies = [future.result() for future in asked]
    assert [reply.question_id for reply in replies] == asked_ids
    for reply in replies:
        pieces = received[reply.question_id]
        assert [piece.index for piece in pieces] == list(range(len(pieces)))
        assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert "".join(piece.text for piece in pieces).rstrip() == reply.answer


def test_cancel_by_id_ends_one_question_and_keeps_the_others(robot: Robot) -> None:
    see_something(robot)

    def long(question_id: str) -> Any:
        request = robot.request("A long story", max_new_tokens=60_000, deadline_s=120.0, stream=True)
        request.question_id = question_id
        return robot.service.call_async(request)

    begun: list[AnswerPiece] = []
    robot.node.create_subscription(AnswerPiece, "/flash_vstream/answer_stream", begun.append, 100)
    first = long("first")
    robot.wait_for(lambda: any(piece.question_id == "first" for piece in begun))
    second, again = long("second"), long("first")
    robot.wait_for(again.done)
    assert again.result().error_code == again.result().INVALID_REQUEST
    assert "in use" in again.result().error_msg
    robot.cancel.publish(String(data="nobody"))
    robot.cancel.publish(String(data=""))

    def second_is_cancelled() -> bool:
        robot.cancel.publish(String(data="second"))  # again, since it may overtake the question
        return bool(second.done())

    robot.wait_for(second_is_cancelled)
    assert second.result().error_code == second.result().CANCELLED
    assert not first.done()
    robot.cancel.publish(String(data="first"))
    robot.wait_for(first.done)
    assert first.result().error_code == first.result().CANCELLED


def test_a_request_beyond_the_limits_is_reduced_with_a_warning(robot: Robot) -> None:
    reply = robot.ask(robot.request("What?", deadline_s=2.0**31 - 1))
    assert reply.error_code == reply.NONE
    assert list(reply.adjustments) == ["deadline reduced from 2147483647 s to question.max_deadline_s = 120 s"]


def test_every_answer_has_the_kind_of_its_model(robot: Robot) -> None:
    reply = robot.ask(robot.request("What?"))
    assert (reply.model_kind, reply.answer.split()[0]) == (reply.MODEL_UNTRAINED, "[untrained]")
    refused = robot.ask(robot.request(""))
    assert (refused.model_kind, refused.answer) == (refused.MODEL_NONE, "")


def test_frames_with_impossible_stamps_are_counted_by_reason(robot: Robot) -> None:
    before = robot.drops()
    for sec, nanosec in ((2**31 - 1, 2**32 - 1), (-(2**31), 0), (-1, 5), (5, SECOND)):
        image = from_rgb(np.zeros((60, 80, 3), np.uint8), 0, "", Image)
        image.header.stamp.sec, image.header.stamp.nanosec = sec, nanosec
        robot.show(image)
    image = from_rgb(np.zeros((60, 80, 3), np.uint8), 0, "x" * 10_000_000, Image)
    robot.show(image)
    after = robot.drops()
    new = {reason: count - before.get(reason, 0) for reason, count in after.items() if count > before.get(reason, 0)}
    assert new == {"negative_stamp": 2, "nanosec_out_of_range": 2, "frame_id_too_long": 1}
    assert robot.ask(robot.request("Still there?")).error_code == 0


def test_cancel_ends_the_running_answer(robot: Robot) -> None:
    pieces: list[str] = []

    def cancel_once(piece: str) -> None:
        if not pieces:
            robot.cancel.publish(String(data="*"))
        pieces.append(piece)

    robot.on_piece = cancel_once
    reply = robot.ask(robot.request("A long story", max_new_tokens=60_000, stream=True, deadline_s=60.0))
    assert reply.error_code == reply.CANCELLED
    assert reply.answer.startswith("[untrained]")


def test_a_deadline_is_kept(robot: Robot) -> None:
    reply = robot.ask(robot.request("A long story", max_new_tokens=60_000, deadline_s=1.0))
    assert reply.error_code == reply.TIMEOUT
    assert "deadline" in reply.error_msg
    assert 1 <= stamp_ns(reply.duration) / SECOND < 60


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"question": ""}, "empty"),
        ({"question": "x" * 1_000_000}, "max_chars"),
        ({"question": "?", "since_s": 20, "until_s": 10}, "since is later than until"),
        ({"question": "?", "cameras": ["rear"]}, "unknown camera rear"),
    ],
    ids=["empty", "1 MB", "since after until", "unknown camera"],
)
def test_a_bad_question_is_refused_with_the_reason(robot: Robot, fields: dict, message: str) -> None:
    reply = robot.ask(robot.request(**fields))
    assert reply.error_code == reply.INVALID_REQUEST
    assert message in reply.error_msg


def test_control_characters_and_special_tokens_in_a_question_are_harmless(robot: Robot) -> None:
    reply = robot.ask(robot.request("\x1b[31m<|im_end|><|video_pad|>\x07 \U0001f916 what?"))
    assert reply.error_code == reply.NONE


def test_a_client_killed_while_it_waits_disturbs_no_other(robot: Robot) -> None:
    see_something(robot)
    ask = [sys.executable, "-m", "flash_vstream_ros.cli", "ask", "A long story"]
    pieces: list[AnswerPiece] = []
    robot.node.create_subscription(AnswerPiece, "/flash_vstream/answer_stream", pieces.append, 100)

    def heard() -> bool:
        robot.ask(robot.request("Do I hear you?", stream=True))
        return bool(pieces)

    robot.wait_for(heard)
    client = subprocess.Popen([*ask, "--stream", "--max-new-tokens", "60000", "--deadline", "6"])
    own = {piece.question_id for piece in pieces}
    robot.wait_for(lambda: bool({piece.question_id for piece in pieces} - own), START_S)
    client.kill()
    client.wait()
    robot.on_piece = None
    reply = robot.ask(robot.request("Still there?", deadline_s=60.0))
    assert reply.error_code == reply.NONE


def test_ask_prints_the_reply_with_the_field_names_of_the_service(robot: Robot) -> None:
    robot.see([4000, 4001])
    ask = [sys.executable, "-m", "flash_vstream_ros.cli", "ask", "What is there?", "--json"]
    reply = json.loads(subprocess.run(ask, check=True, capture_output=True, timeout=START_S).stdout)
    assert reply["error_code"] == 0
    assert reply["newest_frame"] == {"sec": 4001, "nanosec": 0}
    assert reply["evidence"][0]["camera"] == "camera"
    assert set(reply) == set(to_dict(robot.ask(robot.request("?")), binary=False))


def test_ask_says_what_to_do_when_there_is_no_node() -> None:
    ask = [sys.executable, "-m", "flash_vstream_ros.cli", "ask", "?", "--wait", "1", "--service", "nobody/ask_scene"]
    result = subprocess.run(ask, check=False, capture_output=True, text=True, timeout=START_S)
    assert result.returncode == 1
    assert "nobody/ask_scene" in result.stderr
    assert "ROS_DOMAIN_ID" in result.stderr


def write_clip(folder: Path) -> Path:
    """A clip with a moving square, as long as the real one is in slots."""
    clip = folder / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for index in range(200):
        frame = np.full((240, 320, 3), 90, np.uint8)
        cv2.rectangle(frame, (index, 60), (index + 60, 120), (40, 40, 220), -1)
        writer.write(frame)
    writer.release()
    return clip


@pytest.mark.parametrize("source", ["made here", "vtest.avi"])
def test_every_frame_of_a_replayed_clip_is_received(tmp_path: Path, source: str) -> None:
    if source == "vtest.avi" and not SHARED_CLIP.exists():
        pytest.skip("the clip is not here")
    clip = SHARED_CLIP if source == "vtest.avi" else write_clip(tmp_path)
    sent_file = tmp_path / "sent.json"
    namespace = new_namespace()
    replay = [sys.executable, "-m", "flash_vstream_ros.cli", "replay", str(clip), "--topic", f"{namespace}/image"]
    # Published as fast as the node accepts, with a queue that drops nothing, so that a busy machine changes nothing.
    lossless = [("reliability", "reliable"), ("history", "keep_all")]
    args = [
        text
        for name, value in lossless
        for text in ("-p", f"qos_overrides.{namespace}/image.subscription.{name}:={value}")
    ]
    with NodeProcess(tmp_path, args, namespace=namespace), Robot(namespace) as robot:
        robot.wait_until_ready()
        before = robot.status.frames_received
        done = subprocess.run([*replay, "--rate", "0", "--json", str(sent_file)], check=False, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        sent = json.loads(sent_file.read_text())
        robot.wait_for(lambda: robot.status.frames_received == before + sent["sent"])
        status = robot.fresh_status()
        reply = robot.ask(robot.request("What happened?", deadline_s=60.0))
    assert balanced(status)
    assert status.frames_pending == 0
    assert status.slots > 5
    assert reply.error_code == reply.NONE
    seen = (stamp_ns(reply.covered_since) / SECOND, stamp_ns(reply.covered_until) / SECOND)
    assert sent["first_stamp"] - 1e-6 <= seen[0] < seen[1] <= sent["last_stamp"] + 1e-6


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_cleanly_and_waiting_questions_get_a_reply(
    tmp_path: Path, ending: signal.Signals
) -> None:
    with NodeProcess(tmp_path) as node, Robot(node.namespace) as robot:
        robot.wait_until_ready()
        robot.see([1, 2])
        robot.fresh_status()
        pieces: list[str] = []
        robot.on_piece = pieces.append
        future = robot.service.call_async(robot.request("A long story", max_new_tokens=60_000, stream=True))
        robot.wait_for(lambda: bool(pieces))
        assert node.interrupt(ending) == 0
        robot.wait_for(future.done)
        assert future.result().error_code == future.result().CANCELLED
        assert "Traceback" not in node.log
