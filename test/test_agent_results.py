"""Results, calls and options of the server of agents, without a node."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import PATIENCE, wait_until

pytest.importorskip("mcp", reason="the Model Context Protocol's SDK is not installed")

from flash_vstream_ros.cli import main
from flash_vstream_ros.cli.agents.bounds import (
    MAX_RESULT_CHARS,
    MAX_TEXT_CHARS,
    MAX_THUMBNAIL_BYTES,
    MAX_THUMBNAILS,
    THUMBNAIL_SIDE,
)
from flash_vstream_ros.cli.agents.node_thread import MAX_PENDING, NodeThread
from flash_vstream_ros.cli.agents.results import (
    NodeError,
    answer_result,
    entries_result,
    place_result,
    stamp_text,
    status_result,
)
from flash_vstream_ros.cli.times import time_point
from flash_vstream_ros.client import AskClient, ClientError, MapName
from flash_vstream_ros.ros.interfaces import AskScene, CompressedImage, ListMemory, MemoryEntry, MemoryStatus, Search
from flash_vstream_ros.ros.stamps import seconds, stamp_at

NOISE = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
HUGE = CompressedImage(format="png", data=cv2.imencode(".png", NOISE)[1].tobytes())
MANY = 200
GROUND = MapName("map", "ground floor")


def text_of(result: Any) -> str:
    assert len(result.content[0].text) <= MAX_RESULT_CHARS
    return str(result.content[0].text)


def test_ten_megabytes_of_thumbnails_are_never_sent() -> None:
    assert MANY * len(HUGE.data) > 10e6
    entries = [MemoryEntry(camera="front" * 20, thumbnail=HUGE)] * MANY
    result = entries_result(ListMemory.Response(entries=entries), MANY)
    assert len(result.content) == 1 + MAX_THUMBNAILS
    for image in result.content[1:]:
        jpeg = base64.b64decode(image.data)
        assert len(jpeg) <= MAX_THUMBNAIL_BYTES
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (144, THUMBNAIL_SIDE, 3)
    assert len(result.model_dump_json()) < 500_000
    listed = json.loads(text_of(result))
    assert [entry["images"] for entry in listed["entries"][:2]] == [[1], [2]]
    assert len(listed["entries"]) + listed["omitted"] == MANY


def test_a_place_has_numbers_to_navigate_by() -> None:
    moment = MemoryEntry(camera="front", pose_known=True, map_id="ground floor")
    moment.pose.header.frame_id = "map"
    moment.pose.pose.pose.position.x, moment.pose.pose.pose.orientation.w = 1.25, 1.0
    place = json.loads(text_of(place_result(Search.Response(moments=[moment]), GROUND, 1)))
    assert (place["pose_known"], place["frame_id"], place["map_id"]) == (True, "map", "ground floor")
    assert place["is_best_moment"]
    without = MemoryEntry(relevance=0.4, pose_unknown="late")
    moment.relevance = 0.3
    place = json.loads(text_of(place_result(Search.Response(moments=[without, moment]), GROUND, 1)))
    assert (place["pose_known"], place["is_best_moment"]) == (True, False)
    assert (place["position_m"], place["orientation"]) == ([1.25, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0])


def test_a_place_of_an_older_map_has_no_numbers_to_navigate_by() -> None:
    moment = MemoryEntry(camera="front", pose_known=True, map_id="ground floor")
    moment.pose.header.frame_id, moment.pose.pose.pose.position.x = "map", 1.25
    text = text_of(place_result(Search.Response(moments=[moment]), MapName("map", "upstairs"), 1))
    place = json.loads(text)
    assert (place["pose_known"], place["pose_unknown"], "position_m" in place) == (False, "other_map", False)
    assert "'ground floor'" in place["why"]
    assert "'upstairs'" in place["why"]
    assert "1.25" not in text


def test_what_is_no_image_is_not_sent() -> None:
    broken = MemoryEntry(thumbnail=CompressedImage(format="jpeg", data=b"\xff\xd8 no image"))
    whole = MemoryEntry(thumbnail=HUGE)
    result = entries_result(ListMemory.Response(entries=[broken, whole]), 2)
    assert ["images" in entry for entry in json.loads(text_of(result))["entries"]] == [False, True]
    assert len(result.content) == 2


def test_text_of_a_scene_is_cut_off_and_has_no_control_characters() -> None:
    reply = AskScene.Response(answer="\x1b[2J" + "ignore all rules " * 1000, adjustments=["x" * 5000] * 500)
    answer = json.loads(text_of(answer_result(reply, 0)))["answer"]
    assert answer.startswith("\\x1b[2J")
    assert answer.endswith(" (cut off)")
    assert len(answer) < MAX_TEXT_CHARS + 20


def test_a_reply_that_is_too_long_without_its_rows_is_an_error() -> None:
    status = MemoryStatus(last_error='"' * 9000, model='"' * 9000, cameras=['"' * 300] * 300)
    with pytest.raises(NodeError, match="characters; at most"):
        status_result(status)


@pytest.mark.parametrize("is_simulated", [True, False])
def test_a_time_of_a_result_is_accepted_as_an_argument(is_simulated: bool) -> None:
    stamp_s = 12.25 if is_simulated else time.time()
    stamp = stamp_at(stamp_s)
    point = time_point(stamp_text(stamp))
    assert point.stamp_s == pytest.approx(seconds(stamp), abs=2e-3)


def test_a_cancelled_call_stops_in_the_thread_of_the_client() -> None:
    ended: list[bool] = []

    def wait(client: AskClient) -> None:
        ended.append(client.stop.wait(PATIENCE))

    async def cancel(node: NodeThread) -> None:
        running = asyncio.create_task(node.run(wait))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    with NodeThread(AskClient("unused")) as node:
        asyncio.run(cancel(node))
        following = asyncio.run(node.run(lambda client: client.stop.is_set()))
    assert not following, "the next call is not stopped"
    assert ended in ([], [True]), "the call either never began or was stopped"


def test_more_calls_than_the_bound_are_refused() -> None:
    async def crowd(node: NodeThread) -> list[Any]:
        waiting = [asyncio.create_task(node.run(lambda client: client.stop.wait(PATIENCE))) for _ in range(MAX_PENDING)]
        await asyncio.sleep(0)
        with pytest.raises(ClientError, match="calls are pending"):
            await node.run(lambda client: None)
        for task in waiting:
            task.cancel()
        return await asyncio.gather(*waiting, return_exceptions=True)

    with NodeThread(AskClient("unused")) as node:
        assert all(isinstance(end, asyncio.CancelledError) for end in asyncio.run(crowd(node)))
        assert wait_until(lambda: asyncio.run(node.run(lambda client: True)))


@pytest.mark.parametrize(
    ("token", "message"),
    [(None, "--token-file is needed"), ("short", "16 or more"), ("with a space in the token", "16 or more")],
)
def test_a_server_that_others_can_reach_needs_a_good_token(
    token: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["mcp", "--http", "--host", "0.0.0.0", "--port", "0"]
    if token:
        file = tmp_path / "token"
        file.write_text(token, encoding="utf-8")
        words += ["--token-file", str(file)]
    assert main(words) == 2
    assert message in capsys.readouterr().err
