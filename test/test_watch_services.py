"""Watches as users have them: services, events and the command line, on a node in this process."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_until
from robot import SMALL, NodeProcess, Robot, new_namespace

from flash_vstream_ros.cli import main
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.instruments.running_node import running_node
from flash_vstream_ros.node.vstream_node import VStreamNode
from flash_vstream_ros.ros import QoSProfile
from flash_vstream_ros.ros.interfaces import AddWatch, DurationMsg, Event, ListWatches, RemoveWatch, Watch
from flash_vstream_ros.ros.stamps import duration_message, seconds

pytestmark = pytest.mark.slow  # runs a node

WAIT_S = 60.0
PERIOD = DurationMsg(nanosec=100_000_000)
ALWAYS = 1e-6  # a threshold that any probability reaches


class Watcher(Robot):
    """A robot that adds watches and collects their events."""

    def __enter__(self) -> Watcher:
        super().__enter__()
        self.events: list[Event] = []
        events = self.node.create_subscription(Event, f"{self._at}/events", self.events.append, QoSProfile(depth=100))
        self.wait_for(lambda: self.node.count_publishers(events.topic_name) > 0)
        return self

    def add(self, text: str = "Is it there?", **fields: object) -> AddWatch.Response:
        request = AddWatch.Request(watch=Watch(text=text, **fields))
        return self.call(AddWatch, f"{self._at}/add_watch", request, WAIT_S)

    def remove(self, watch_id: str) -> RemoveWatch.Response:
        request = RemoveWatch.Request(watch_id=watch_id)
        return self.call(RemoveWatch, f"{self._at}/remove_watch", request, WAIT_S)

    def listed(self) -> ListWatches.Response:
        return self.call(ListWatches, f"{self._at}/list_watches", ListWatches.Request(), WAIT_S)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("watches") / "watches.json"


@pytest.fixture(scope="module")
def robot(kept: Path) -> Iterator[Watcher]:
    namespace = new_namespace()
    given = ["-p", "model.name:=tiny-random", "-p", f"watch.path:={kept}", "-p", "watch.max_watches:=2"]
    args = ["test", "--ros-args", "-r", f"__ns:={namespace}", *SMALL, *given]
    with running_node(VStreamNode, args) as (node, _):
        assert wait_until(lambda: node._engine.state is State.READY, 120.0)
        with Watcher(namespace) as robot:
            robot.wait_until_ready()
            yield robot


def test_an_event_has_its_evidence_and_ends_when_its_watch_is_removed(robot: Watcher, kept: Path) -> None:
    added = robot.add(watch_id="mine", on=ALWAYS, off=ALWAYS, period=PERIOD)
    assert (added.error_code, added.error_msg, added.watch_id) == (added.NONE, "", "mine")
    assert [watch["id"] for watch in json.loads(kept.read_text())["watches"]] == ["mine"]
    robot.see([1, 2])
    robot.wait_for(lambda: len(robot.events) == 1)
    event = robot.events[0]
    assert (event.kind, event.watch_id, event.text, event.reason) == (Event.BEGAN, "mine", "Is it there?", "")
    assert (event.camera, event.header.stamp.sec, event.header.frame_id) == ("camera", 2, "camera_optical")
    assert event.model_kind == Event.MODEL_UNTRAINED
    (entry,) = event.evidence
    assert bytes(entry.thumbnail.data[:2]) == b"\xff\xd8"
    assert (entry.thumbnail.header.stamp.sec, entry.pose_unknown) == (2, "no_source")
    (status,) = robot.listed().watches
    assert (status.active, status.stamp.sec, status.problem) == (True, 2, "")
    assert (status.checks > 0, seconds(status.watch.period)) == (True, pytest.approx(0.1))
    assert 0.0 < event.probability <= 1.0
    assert robot.remove("mine").error_code == 0
    robot.wait_for(lambda: len(robot.events) == 2)
    assert (robot.events[1].kind, robot.events[1].reason, robot.events[1].evidence) == (Event.ENDED, "removed", [])
    assert json.loads(kept.read_text())["watches"] == []


def test_a_request_that_cannot_be_served_is_refused_with_the_reason(robot: Watcher) -> None:
    for fields, message in (
        ({"text": ""}, "the text of the watch is empty"),
        ({"cameras": ["rear"]}, "unknown camera rear"),
        ({"watch_id": "no spaces"}, "watch_id 'no spaces' must be 1 to 64"),
        ({"hold": DurationMsg(sec=-1)}, "hold, release and cooldown"),
        ({"on": 2.0}, "0 < off <= on < 1"),
    ):
        reply = robot.add(**fields)  # type: ignore[arg-type]
        assert reply.error_code == reply.INVALID_REQUEST
        assert message in reply.error_msg
    reply = robot.remove("unknown")
    assert (reply.error_code, "no watch with the id 'unknown'" in reply.error_msg) == (reply.INVALID_REQUEST, True)
    assert not robot.listed().watches


def test_a_restarted_node_has_the_watch_with_its_settings(tmp_path: Path) -> None:
    args = ["-p", f"watch.path:={tmp_path / 'watches.json'}"]
    durations = {"period": 0.5, "hold": 3.0, "release": 2.0, "cooldown": 4.5}
    with NodeProcess(tmp_path, args) as node, Watcher(node.namespace) as robot:
        robot.wait_until_ready()
        fields = {name: duration_message(duration_s) for name, duration_s in durations.items()}
        added = robot.add("Is the door open?", watch_id="door", cameras=["camera"], on=0.8, off=0.25, **fields)
        assert (added.error_code, added.watch_id) == (added.NONE, "door"), added.error_msg
    with NodeProcess(tmp_path, args) as node, Watcher(node.namespace) as robot:
        robot.wait_until_ready()
        (status,) = robot.listed().watches
        watch = status.watch
        assert (watch.watch_id, watch.text, list(watch.cameras)) == ("door", "Is the door open?", ["camera"])
        assert {name: seconds(getattr(watch, name)) for name in durations} == pytest.approx(durations)
        assert (watch.on, watch.off) == (pytest.approx(0.8), pytest.approx(0.25))
        assert "restored 1 watches from" in node.log
        stamps = itertools.count(1)

        def is_checked() -> bool:
            robot.see([next(stamps), next(stamps)])
            return bool(robot.listed().watches[0].checks > 0)

        robot.wait_for(is_checked)


def test_the_command_adds_prints_and_removes_a_watch(
    robot: Watcher, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = ["--node", robot._at]
    assert main(["watch", *node]) == 2
    assert main(["watch", "--remove", "unknown", *node]) == 1
    assert "no watch with the id 'unknown'" in capsys.readouterr().err
    # Ctrl-C in the command, once it has printed an event. Events come until then, since the first ones may be lost
    # while its subscription is discovered.
    monkeypatch.setattr("flash_vstream_ros.cli.watch._print_event", printed_then_interrupted)
    options = ["--id", "cli", "--on", str(ALWAYS), "--off", str(ALWAYS), "--period", "0.1"]
    ended = threading.Event()

    def remove_and_add() -> None:
        for second in itertools.count(13, 2):
            if ended.wait(1.0):
                return
            robot.see([second, second + 1])  # a camera that stops raises no event
            if any(status.active for status in robot.listed().watches):
                robot.remove("cli")
                robot.add("a person is in view", watch_id="cli", on=ALWAYS, off=ALWAYS, period=PERIOD)

    robot.see([11, 12])
    adding = threading.Thread(target=remove_and_add)
    adding.start()
    assert main(["watch", "a person is in view", *options, "--keep", *node]) == 130
    ended.set()
    adding.join()
    assert main(["watch", "--list", *node]) == 0
    out = capsys.readouterr().out
    assert "event of cli" in out
    assert "cli  a person is in view  (every 0.1 s" in out
    assert main(["watch", "--remove", "cli", *node]) == 0
    assert main(["watch", "--list", *node]) == 0
    assert "(0 watches" in capsys.readouterr().out


def printed_then_interrupted(event: Event, as_json: bool) -> None:
    print(f"event of {event.watch_id}")
    raise KeyboardInterrupt
