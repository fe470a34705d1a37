"""Static scenes are not encoded again; slow and small changes are."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from flash_vstream_ros.demo.house import Item, Renderer
from flash_vstream_ros.demo.view import Pose
from flash_vstream_ros.demo.world import CELL, CELLS, COLOURS, centre, place, standpoint
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.context import Context
from flash_vstream_ros.engine.ingest.ingest import Ingest
from flash_vstream_ros.engine.ingest.mailbox import Frame, Mailbox
from flash_vstream_ros.engine.ingest.static_scene import (
    StaticSceneConfig,
    StaticSceneFilter,
    block_means,
    largest_change,
)
from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory import FlashMemory
from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.pose import NO_POSE, MaybePose, UnknownPose
from flash_vstream_ros.memory.pose import Pose as RobotPose
from flash_vstream_ros.memory.recent import RecentSlots
from flash_vstream_ros.memory.region import Near
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.spans import Interval
from flash_vstream_ros.memory.uniform import UniformSlots
from flash_vstream_ros.models.household_settings import FRAME_S, MEMORY

FRAME_NS = round(FRAME_S * 1e9)
LIMITS = StaticSceneConfig()
OPEN = replace(LIMITS, threshold=0.0)
ROOM = "kitchen"
PATCHES = 32  # of 14 pixels, along a side of 448
ENDLESS = replace(LIMITS, max_interval_s=1e6)  # without the interval, only changes cause encoding
PAN_FRAMES, PAN_STEP = 160, 0.0006  # [rad] a frame: a sixth of a pixel


def view(number: int, turned: float = 0.0, items: Sequence[Item] = (), light: float = 1.0) -> np.ndarray:
    """A corner of the kitchen as the demo's camera sees it, with noise that depends on `number`."""
    stand = standpoint(ROOM, 0, np.zeros(4))
    pose = Pose(stand.x, stand.y, stand.z, stand.yaw + turned)
    return house().frame(pose, items, None, light, number)


@cache
def house() -> Renderer:
    return Renderer(0, CELL, CELLS)


def pan() -> list[np.ndarray]:
    return [view(k, turned=PAN_STEP * k) for k in range(PAN_FRAMES)]


def ball() -> Item:
    return Item("ball", COLOURS["red"], *place(ROOM, 0))


class Stream:
    """Frames of one camera, ingested into a memory."""

    def __init__(self, model: Any, limits: StaticSceneConfig, memory: Memory | None = None) -> None:
        self.memory: Any = memory or FlashMemory(MEMORY)
        self.mailbox = Mailbox(1 / FRAME_S)
        self.warnings: list[str] = []
        self.ready = threading.Event()
        context = Context(model, self.memory, ThrottledLog(self.warnings.append), wake=self.ready)
        config = EngineConfig(sample_fps=1 / FRAME_S, static_scene=limits)
        self.ingest = Ingest(context, config, {"camera": self.mailbox})
        self.stamp_ns = 0

    def show(self, images: Sequence[np.ndarray], pose: MaybePose = NO_POSE) -> Stream:
        known = Future[MaybePose]()
        known.set_result(pose)
        for image in images:
            self.stamp_ns += FRAME_NS
            self.mailbox.offer(Frame("camera", "", self.stamp_ns, image.copy, find_pose=lambda: known))
            while self.mailbox.counts().pending:
                self.ready.clear()
                if not self.ingest.step() and self.mailbox.counts().pending:
                    assert self.ready.wait(60.0)
        return self

    @property
    def shares(self) -> tuple[int, int]:
        """Number of frames that were encoded, and of static ones."""
        counts = self.mailbox.counts()
        assert counts.received == counts.encoded + counts.static + counts.not_sampled + counts.dropped + counts.pending
        assert not self.warnings
        return counts.encoded, counts.static


def answer(model: Any, memory: FlashMemory, question: str) -> str:
    return "".join(token.text for token in model.answer(memory.snapshot(), question, 16)).strip()


def nearest(memory: FlashMemory, low: torch.Tensor) -> float:
    """Distance of a low-resolution map to the nearest one that the memory shows, relative to its norm."""
    shown = memory.snapshot().csm.flatten(1)
    return float((shown - low.flatten()).norm(dim=1).min() / low.norm())


def test_a_static_scene_is_encoded_once_and_its_slot_extended(household: Any) -> None:
    stream = Stream(household, LIMITS).show([view(k) for k in range(40)])
    memory = stream.memory
    assert stream.shares == (4, 36)  # the second time after static.max_interval_s
    assert (memory.slots_seen, memory.first_ns, memory.last_ns) == (20, FRAME_NS, 40 * FRAME_NS)
    weights = [entry.weight for entry in memory.snapshot().entries if entry.weight > 1]
    assert sum(weights) == 20
    assert memory.newest == (40 * FRAME_NS, 40 * FRAME_NS)


def test_a_threshold_of_zero_encodes_every_slot(household: Any) -> None:
    assert Stream(household, OPEN).show([view(k) for k in range(12)]).shares == (12, 0)


def test_a_slow_pan_is_not_a_static_scene(household: Any) -> None:
    """Consecutive frames hardly differ, but the memory follows the pan."""
    images = pan()
    stream, grid = Stream(household, ENDLESS).show(images), household.grid(448, 448)
    encoded, static = stream.shares
    assert encoded >= 8
    assert static >= 8
    first, last = (household.encode([images[k], images[k + 1]], grid)[0] for k in (0, PAN_FRAMES - 2))
    turned = float((last - first).norm() / last.norm())
    assert nearest(stream.memory, last) < 0.5 * turned


def test_dusk_is_not_a_static_scene(household: Any) -> None:
    encoded, _ = Stream(household, ENDLESS).show([view(k, light=1.0 - 0.005 * k) for k in range(80)]).shares
    assert encoded >= 16


def test_a_small_object_that_appears_is_encoded_and_the_answer_mentions_it(household: Any) -> None:
    bare, with_it = [view(k) for k in range(12)], [view(k, items=[ball()]) for k in range(12, 16)]
    streams = [Stream(household, limits).show(bare).show(with_it) for limits in (LIMITS, OPEN)]
    assert streams[0].shares[0] < streams[1].shares[0]
    answers = [answer(household, stream.memory, "Did you see a red ball?") for stream in streams]
    assert answers[0] == answers[1]
    assert answers[0].lower().startswith("yes")
    assert answers[0] != answer(household, Stream(household, LIMITS).show(bare).memory, "Did you see a red ball?")


def test_a_distant_object_that_appears_is_encoded(household: Any) -> None:
    x, y = centre(ROOM)
    far = Item("ball", COLOURS["red"], float(x) + 2.2, float(y) + 2.2)
    stream = Stream(household, ENDLESS).show([view(k) for k in range(8)])
    assert stream.shares == (2, 6)
    assert stream.show([view(k, items=[far]) for k in range(8, 12)]).shares == (4, 8)


@pytest.mark.parametrize("size", [(448, 448), (480, 640), (61, 90), (20, 300), (8, 8)])
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_changed_patch_is_detected_anywhere_in_the_image(size: tuple[int, int], corner: tuple[int, int]) -> None:
    before = np.full((*size, 3), 90, np.uint8)
    side = max(1, min(size) // PATCHES)
    top, left = ((length - side) * at for length, at in zip(size, corner, strict=True))
    for down, right in ((0, 0), (side // 2, side // 2)):
        after = before.copy()
        y, x = min(top, size[0] - side) - down * corner[0], left - right * corner[1]
        after[max(y, 0) : max(y, 0) + side, max(x, 0) : max(x, 0) + side, 2] += 30
        assert largest_change(block_means(after), block_means(before)) > LIMITS.threshold


def test_images_of_another_size_are_not_static(household: Any) -> None:
    stream = Stream(household, LIMITS).show([np.full((448, 448, 3), 80, np.uint8)] * 4)
    counts = stream.show([np.full((480, 640, 3), 80, np.uint8)] * 2).mailbox.counts()
    assert (counts.encoded, counts.static, counts.resolution_changes) == (4, 2, 1)


def test_forgetting_part_of_a_static_scene_forgets_its_slot(household: Any) -> None:
    stream = Stream(household, LIMITS).show([view(k) for k in range(12)])
    since = Interval(8 * FRAME_NS, 9 * FRAME_NS)
    stream.ingest.forget("camera", since)
    assert stream.memory.forget(Scope((), *since)).slots == 6
    assert not stream.memory.entries
    assert stream.show([view(k) for k in range(4)]).shares == (4, 12)
    assert stream.memory.first_ns == 13 * FRAME_NS


def test_a_static_scene_whose_slot_was_removed_is_encoded_again(household: Any) -> None:
    stream = Stream(household, LIMITS).show([view(k) for k in range(6)])
    stream.memory.reset()
    assert stream.show([view(k) for k in range(6, 8)]).shares == (4, 4)
    assert stream.memory.slots_seen == 1


@pytest.mark.parametrize("policy", [RecentSlots, UniformSlots])
def test_other_policies_extend_their_newest_slot(household: Any, policy: type) -> None:
    stream = Stream(household, LIMITS, policy(MEMORY)).show([view(k) for k in range(12)])
    (entry,) = stream.memory.snapshot().entries
    assert stream.memory.slots_seen == 6
    assert (entry.first_ns, entry.last_ns, entry.thumbnail_ns) == (FRAME_NS, 12 * FRAME_NS, 2 * FRAME_NS)


def test_slots_encoded_in_a_batch_equal_those_encoded_alone(household: Any) -> None:
    grid, images = household.grid(448, 448), pan()[:6]
    prepared = [household.prepare(image, grid) for image in images]
    together = household.encode_slots([prepared[k : k + 2] for k in range(0, 6, 2)], grid)
    for k, (low, detail) in enumerate(together):
        for ours, alone in zip((low, detail), household.encode(images[2 * k : 2 * k + 2], grid), strict=True):
            assert ours.shape == alone.shape
            assert (ours - alone).norm() < 0.02 * alone.norm()


def test_a_robot_that_has_moved_is_elsewhere_even_before_the_same_white_wall() -> None:
    def at(x: float, map_id: str = "") -> RobotPose:
        return RobotPose((x, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), "map", map_id)

    wall = block_means(np.full((64, 64, 3), 200, np.uint8))
    for reference, now, is_static in (
        (at(0.0), at(0.4), True),
        (at(0.0), at(0.6), False),
        (at(0.0), at(0.0, "upstairs"), False),
        (at(0.0), UnknownPose("late"), False),
        (UnknownPose("late"), at(0.0), False),
        (UnknownPose("late"), UnknownPose("gap"), True),
    ):
        scenes = StaticSceneFilter(StaticSceneConfig())
        scenes.set_reference("camera", (wall, wall), 1, 2, reference)
        assert scenes.is_static("camera", (wall, wall), 3, now) == is_static


@pytest.mark.parametrize("policy", [FlashMemory, RecentSlots])
def test_static_frames_without_a_pose_are_not_counted_at_the_place_before(household: Any, policy: type) -> None:
    pose = RobotPose((1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), "map")
    stream = Stream(household, LIMITS, policy(MEMORY)).show([view(k) for k in range(4)], pose)
    stream.show([view(k) for k in range(4, 8)], UnknownPose("late"))
    assert stream.shares == (4, 4)
    here = Near(1.0, 0.0, 0.5, "map")
    near, after = Scope(near=here), Scope((), 5 * FRAME_NS, 0, here)
    assert {entry.last_ns for entry in stream.memory.snapshot(near).entries} == {4 * FRAME_NS}
    assert not stream.memory.may_contain(after)
    stream.memory.forget(near)
    assert [entry.pose for entry in stream.memory.snapshot().entries] == [UnknownPose("late")] * stream.memory.entries
    assert stream.memory.entries


def test_the_poses_of_static_frames_are_in_the_region_of_their_entry(household: Any) -> None:
    near, further = (RobotPose((x, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), "map") for x in (1.0, 1.4))
    stream = Stream(household, LIMITS).show([view(k) for k in range(2)], near)
    stream.show([view(k) for k in range(2, 4)], further)
    assert stream.shares == (2, 2)
    assert {round(entry.region.spread_m(near), 6) for entry in stream.memory.snapshot().entries} == {0.4}
