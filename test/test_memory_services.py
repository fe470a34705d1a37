"""The services on the memory as users call them: over DDS, on the runtime that is installed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_writer import frames_in
from robot import NodeProcess, Robot, balanced, new_namespace

from flash_vstream_ros import progress
from flash_vstream_ros.cli import main
from flash_vstream_ros.engine.archive.database import ArchiveError
from flash_vstream_ros.engine.archive.key_frame import KeyFrame
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.control.memory_commands import MemoryCommands
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.engine.hooks import EngineHooks
from flash_vstream_ros.models.interface import VisionLanguageModel
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.node.memory_services import MemoryServices
from flash_vstream_ros.node.poses.pose_config import PoseConfig
from flash_vstream_ros.ros import Node, SingleThreadedExecutor
from flash_vstream_ros.ros.interfaces import Forget, ListMemory, Trigger
from flash_vstream_ros.ros.stamps import stamp_at

pytestmark = pytest.mark.slow  # starts nodes in processes of their own

WAIT_S = 60.0


class Keeper(Robot):
    """A robot that also calls the node's memory services."""

    def trigger(self, name: str) -> Trigger.Response:
        return self.call(Trigger, f"{self._at}/{name}", Trigger.Request(), WAIT_S)

    def forget(self, since_s: float = 0.0, until_s: float = 0.0, cameras: tuple[str, ...] = ()) -> Forget.Response:
        request = Forget.Request(cameras=list(cameras), since=stamp_at(since_s), until=stamp_at(until_s))
        return self.call(Forget, f"{self._at}/forget", request, WAIT_S)

    def listed(self, since_s: float = 0.0, until_s: float = 0.0, **fields: object) -> ListMemory.Response:
        request = ListMemory.Request(since=stamp_at(since_s), until=stamp_at(until_s), **fields)
        return self.call(ListMemory, f"{self._at}/list_memory", request, WAIT_S)

    def held_seconds(self) -> set[int]:
        entries = self.listed().entries
        return {bound.sec for entry in entries for bound in (entry.since, entry.until)}


def test_a_killed_node_comes_back_with_what_was_saved_and_without_what_was_forgotten(tmp_path: Path) -> None:
    archive = ["-p", f"archive.path:={tmp_path / 'archive'}"]
    with NodeProcess(tmp_path, archive) as process, Keeper(process.namespace) as robot:
        robot.wait_until_ready()
        robot.see(range(1, 13))
        saved = robot.trigger("save")
        assert saved.success, saved.message
        assert robot.forget(5, 8).slots == 2
        before = robot.ask(robot.request("What is there?"))
        process.process.send_signal(signal.SIGKILL)
        process.process.wait()
        with NodeProcess(tmp_path, archive, namespace=process.namespace), Keeper(process.namespace) as again:
            again.wait_until_ready()
            assert again.fresh_status().slots == 6  # seen, forgotten ones included
            assert again.held_seconds() == {*range(1, 5), *range(9, 13)}
            assert again.ask(again.request("What is there?")).answer == before.answer
            again.see(range(13, 17))
            assert again.trigger("load").success
            assert again.held_seconds() == {*range(1, 5), *range(9, 13)}


def test_a_node_with_another_policy_rebuilds_its_memory_from_the_archive(tmp_path: Path) -> None:
    archive = ["-p", f"archive.path:={tmp_path / 'archive'}", "-p", "archive.max_gib:=0.1"]
    recent = [*archive, "-p", "memory.policy:=recent"]
    with NodeProcess(tmp_path, recent) as process, Keeper(process.namespace) as robot:
        robot.wait_until_ready()
        robot.see(range(1, 13))
    with NodeProcess(tmp_path, archive) as process, Keeper(process.namespace) as robot:
        robot.wait_until_ready()
        robot.wait_for(lambda: robot.status.slots == 6)
        assert robot.held_seconds() == set(range(1, 13))
        robot.see(range(13, 17))
        assert robot.held_seconds() == set(range(1, 17))
        assert "the memory was rebuilt from 6 of 6 archived key frames" in process.log
        assert "policy 'recent', not 'flash'" in process.log


def test_the_stream_of_an_answer_from_the_archive_reports_its_key_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "archive"
    small = {"synopsis_slots": 4, "key_frame_slots": 1, "exemplars": 1}
    sizes = [word for name, size in small.items() for word in ("-p", f"memory.{name}:={size}")]
    archive = ["-p", f"archive.path:={folder}", "-p", "archive.max_gib:=0.1"]
    with NodeProcess(tmp_path, [*archive, *sizes]) as process, Keeper(process.namespace) as robot:
        robot.wait_until_ready()
        robot.see(range(1, 25))
        robot.wait_for(lambda: folder.joinpath("archive.sqlite").exists() and len(archived(folder)) == 12)
        texts: list[str] = []
        reports: list[tuple[int, int]] = []
        robot.on_piece, robot.on_key_frames = texts.append, lambda *report: reports.append(report)
        reply = robot.ask(robot.request("What was there?", since_s=4.0, until_s=13.0, stream=True))
        robot.wait_for(lambda: bool(texts) and texts[-1] == "")  # the last piece
        assert "answered from 6 of 6 archived key frames" in str(reply.adjustments)
        assert reports == [(done, 6) for done in range(7)]
        assert "".join(texts).rstrip() == reply.answer
        monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
        names = ["--service", f"{process.namespace}/ask_scene", "--node", f"{process.namespace}/flash_vstream"]
        assert main(["ask", "What was there?", "--since", "4", "--until", "13", *names]) == 0
        printed = capsys.readouterr()
        assert "encoding archived key frames: 6 of 6" in printed.err
        assert "[untrained]" in printed.out


def archived(folder: Path) -> list[KeyFrame]:
    try:
        return frames_in(folder)
    except ArchiveError:  # it is being created
        return []


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("keeping")) as process:
        yield process


@pytest.fixture
def robot(node: NodeProcess) -> Iterator[Keeper]:
    """A robot with a node that is not paused and has an empty memory."""
    with Keeper(node.namespace) as robot:
        robot.wait_until_ready()
        assert robot.trigger("resume").success
        assert robot.trigger("reset").success
        yield robot


def test_frames_during_a_pause_are_counted_as_paused_and_questions_are_answered(robot: Keeper) -> None:
    robot.see(range(10, 14))
    before = robot.drops().get("paused", 0)
    assert robot.trigger("pause").success
    assert robot.trigger("pause").message == "already paused"
    robot.see(range(14, 18))
    assert robot.drops()["paused"] == before + 4
    assert robot.status.paused
    assert robot.status.slots == 2
    assert robot.status.newest_frame.sec == 17
    assert robot.ask(robot.request("What is there?")).error_code == 0
    assert robot.trigger("resume").message == "resumed"
    robot.see(range(18, 20))
    assert robot.fresh_status().slots == 3
    assert not robot.status.paused
    assert balanced(robot.status)


def test_a_reset_forgets_everything_and_accepts_earlier_stamps(robot: Keeper) -> None:
    robot.see(range(1000, 1006))
    reply = robot.trigger("reset")
    assert (reply.success, reply.message) == (True, "forgot all 3 slots")
    assert robot.fresh_status().memory_entries == robot.status.slots == robot.status.memory_bytes == 0
    assert robot.ask(robot.request("What is there?")).error_code == 2
    robot.see(range(5, 9))
    assert robot.held_seconds() == {5, 6, 7, 8}


def test_forgotten_slots_are_in_no_list_or_answer(robot: Keeper) -> None:
    robot.see(range(1, 21))
    images = {bytes(entry.thumbnail.data) for entry in robot.listed(7, 12, thumbnails=True).entries}
    assert len(images) == 3
    reply = robot.forget(8, 11)
    assert (reply.error_code, reply.slots, reply.clusters_removed, reply.clusters_rebuilt) == (0, 3, 3, 0)
    assert robot.held_seconds() == {*range(1, 7), *range(13, 21)}
    assert not images & {bytes(entry.thumbnail.data) for entry in robot.listed(thumbnails=True).entries}
    answer = robot.ask(robot.request("What is there?"))
    assert answer.error_code == answer.NONE
    assert not images & {bytes(evidence.thumbnail.data) for evidence in answer.evidence}
    assert robot.ask(robot.request("What was there?", since_s=7, until_s=12)).error_code == answer.NO_FRAMES


def test_list_memory_returns_the_entries_that_a_question_is_answered_from(robot: Keeper) -> None:
    assert (robot.listed().error_code, robot.listed().entries) == (0, [])
    robot.see(range(1, 21))
    everything, part = robot.listed(thumbnails=True).entries, robot.listed(7, 12).entries
    assert len(everything) == robot.fresh_status().memory_entries
    assert sum(entry.weight for entry in everything if entry.kind == entry.SYNOPSIS) == 10
    assert all(bytes(entry.thumbnail.data[:2]) == b"\xff\xd8" for entry in everything)
    assert all(entry.thumbnail.header.frame_id == "camera_optical" for entry in everything)
    assert {bound.sec for entry in part for bound in (entry.since, entry.until)} == set(range(7, 13))
    assert not any(len(entry.thumbnail.data) for entry in part)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "unbounded"),
        ({"since_s": 20, "until_s": 10}, "since is later than until"),
        ({"since_s": -1.0}, "must not be negative"),
        ({"cameras": ("rear",)}, "unknown camera rear"),
    ],
)
def test_a_wrong_request_is_refused_with_the_reason(robot: Keeper, fields: dict, message: str) -> None:
    reply = robot.forget(**fields)
    assert reply.error_code == reply.INVALID_REQUEST
    assert message in reply.error_msg
    if fields:
        reply = robot.listed(**{**fields, "cameras": list(fields.get("cameras", ()))})
        assert reply.error_code == reply.INVALID_REQUEST


def test_by_default_a_looping_bag_is_stored_once_per_loop(robot: Keeper, node: NodeProcess) -> None:
    before = robot.fresh_status().jumps_back
    robot.see(range(100, 110))
    robot.see(range(100, 110))
    status = robot.fresh_status()
    assert status.jumps_back == before + 1
    assert status.slots == 9
    assert robot.held_seconds() == set(range(100, 110))
    assert "jumped back by 7.0 s" in node.log
    reply = robot.ask(robot.request("What is there?", since_s=104, until_s=105))
    assert (reply.covered_since.sec, reply.covered_until.sec) == (104, 105)


def test_a_summary_of_forgotten_slots_is_withdrawn(tmp_path: Path) -> None:
    args = ["-p", "summary.period_s:=0.5"]
    with NodeProcess(tmp_path, args) as node:
        with Keeper(node.namespace) as robot:
            robot.wait_until_ready()
            robot.see(range(1, 7))
            robot.wait_for(lambda: bool(robot.summaries))
            robot.wait_for(lambda: sum(summary.frames for summary in robot.summaries) == 6)
            assert robot.trigger("reset").success
            robot.wait_for(lambda: robot.summaries[-1].text == "")
        with Keeper(node.namespace) as late:
            late.wait_for(lambda: bool(late.summaries))
            assert late.summaries[-1].text == ""
            late.wait_until_ready()
            late.see(range(2, 6))
            late.wait_for(lambda: bool(late.summaries[-1].text))
            assert late.summaries[-1].until.sec in (3, 5)


def test_the_command_line_lists_and_forgets(node: NodeProcess, robot: Keeper) -> None:
    def memory(*words: str) -> subprocess.CompletedProcess[str]:
        name = f"{node.namespace}/flash_vstream"
        command = [sys.executable, "-m", "flash_vstream_ros.cli", "memory", *words, "--node", name]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)

    robot.see(range(1, 9))
    listed = json.loads(memory("list", "--json", "--since", "3", "--until", "4").stdout)
    assert [entry["since"]["sec"] for entry in listed["entries"]] == [3, 3]
    assert memory("forget", "--since", "3", "--until", "4").stdout.startswith("forgot 1 slots")
    lines = memory("list").stdout.splitlines()
    assert lines[-1] == "(6 entries)"
    assert lines[0].startswith("key frame  camera  1.0 s to 2.0 s")
    refused = memory("forget")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "unbounded" in refused.stderr
    assert memory("pause").stdout == "paused\n"


@pytest.fixture(scope="module")
def model() -> VisionLanguageModel:
    return load_model("tiny-random", device="cpu", max_pixels=112 * 112)


class Bench:
    """The services of a node whose engine comes and goes, called on this thread."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.forgotten = 0
        self.node = Node("coming_and_going", namespace=new_namespace())
        self.services = MemoryServices(self.node, lambda: self.engine, PoseConfig, self._on_forgotten)

    def _on_forgotten(self) -> None:
        self.forgotten += 1

    def call(self, kind: type, name: str, **fields: object) -> object:
        client = self.node.create_client(kind, f"~/{name}")
        executor = SingleThreadedExecutor()
        executor.add_node(self.node)
        assert client.wait_for_service(timeout_sec=WAIT_S)
        future = client.call_async(kind.Request(**fields))  # type: ignore[attr-defined]
        executor.spin_until_future_complete(future, timeout_sec=WAIT_S)
        executor.shutdown()
        return future.result()


@pytest.fixture
def bench(ros: None) -> Iterator[Bench]:
    bench = Bench()
    yield bench
    if bench.engine is not None:
        bench.engine.stop()
    bench.node.destroy_node()


def test_without_an_engine_every_service_replies_not_ready(bench: Bench) -> None:
    for name in ("pause", "resume", "reset", "save", "load"):
        reply = bench.call(Trigger, name)
        assert not reply.success  # type: ignore[attr-defined]
        assert reply.message.startswith("NOT_READY: there is no memory")  # type: ignore[attr-defined]
    for kind, name in ((Forget, "forget"), (ListMemory, "list_memory")):
        assert bench.call(kind, name).error_code == 1  # type: ignore[attr-defined]
    assert not bench.forgotten


def test_an_exception_gets_an_error_reply_and_a_busy_worker_a_timeout(
    bench: Bench, model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.engine = Engine(EngineConfig(), lambda: model, EngineHooks(lambda _: None, lambda _: None))
    bench.engine.start()
    while bench.call(Trigger, "pause").message.startswith("NOT_READY"):  # type: ignore[attr-defined]
        pass
    with monkeypatch.context() as patch:
        patch.setattr(MemoryCommands, "entries", lambda *_: 1 / 0)
        reply = bench.call(ListMemory, "list_memory")
        assert reply.error_code == reply.INTERNAL  # type: ignore[attr-defined]
    monkeypatch.setattr("flash_vstream_ros.node.service_replies.STEP_TIMEOUT_S", 0.2)
    release = threading.Event()
    bench.engine.submit(lambda _: release.wait(WAIT_S))
    reply = bench.call(Forget, "forget", since=stamp_at(1.0))
    assert (reply.error_code, bench.forgotten) == (reply.TIMEOUT, 0)  # type: ignore[attr-defined]
    assert "nothing was done" in reply.error_msg  # type: ignore[attr-defined]
    release.set()
    monkeypatch.undo()
    assert bench.call(Forget, "forget", since=stamp_at(1.0)).error_code == 0  # type: ignore[attr-defined]
    assert bench.forgotten == 1
    assert bench.engine.status().paused
