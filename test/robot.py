"""The node in its own process, and a robot that communicates with it over DDS, for tests of the node."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from forked_program import ForkedProgram

from flash_vstream_ros.client import AskClient
from flash_vstream_ros.ros import DurabilityPolicy, QoSProfile
from flash_vstream_ros.ros.images import from_rgb
from flash_vstream_ros.ros.interfaces import Image, MemoryStatus, SceneSummary, String, interface

SECOND = 1_000_000_000
START_S = 200.0  # for a process with torch to start, on a machine that does other work as well
END_S = 60.0  # for it to end; how soon it does is measured by `bench.shutdown`
CRASHES = [1, *(-number for number in (signal.SIGABRT, signal.SIGBUS, signal.SIGSEGV))]
SMALL = ["-p", "model.max_pixels:=12544", "-p", "question.max_new_tokens:=8", "-p", "summary.period_s:=0.0"]
SMALL += ["-p", "status.period_s:=0.05", "-p", "question.max_answer_tokens:=65535"]


_namespaces = itertools.count(1)


def new_namespace() -> str:
    """A namespace that no test has used: a client can still find the services of a node that has just ended."""
    return f"/robot{os.getpid()}_{next(_namespaces)}"


class NodeProcess:
    """`flash-vstream-ros node` with its log in a file, by default in a new namespace; ended by Ctrl-C.

    A forked one starts sooner, but is blind to environment variables that libraries read when they are imported.
    """

    def __init__(
        self,
        folder: Path,
        ros_args: Sequence[str] = (),
        model: str = "tiny-random",
        small: bool = True,
        namespace: str | None = None,
        forked: bool = True,
    ) -> None:
        self.namespace = new_namespace() if namespace is None else namespace
        if self.namespace:
            ros_args = ["-r", f"__ns:={self.namespace}", *ros_args]
        self._log = folder / f"node-{time.monotonic_ns()}.log"
        command = ["node", "--model", model, "--ros-args", *(SMALL if small else []), *ros_args]
        self._log.touch()
        self.process = ForkedProgram(command, self._log) if forked else _started(command, self._log)

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        ended_by_itself = self.process.poll()
        if ended_by_itself is None:
            try:
                self.interrupt()  # a killed node would stay in the graph for ten seconds
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGABRT)  # its threads tell the log where they are
                self.process.wait()
                print(f"the node did not end:\n{self.log}")
        assert ended_by_itself not in CRASHES, f"the node ended by {ended_by_itself}:\n{self.log[-8000:]}"

    def interrupt(self, signal_number: int = signal.SIGINT) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal_number)
        return self.process.wait(END_S)


def _started(arguments: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
    with output.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "flash_vstream_ros.cli", *arguments],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        )


class Robot(AskClient):
    """A client that also publishes images, on one topic for each camera, and listens to everything the node says."""

    def __init__(self, namespace: str = "", topics: Sequence[str] = ("image",), kind: Any = Image) -> None:
        self._at = f"{namespace}/flash_vstream"
        self._namespace = namespace
        self._topics = topics
        self._kind = kind
        super().__init__(f"{namespace}/ask_scene", node_name=self._at)
        self.status: Any = None
        self.summaries: list[Any] = []
        self.answers: list[str] = []
        self.on_piece = None

    def __enter__(self) -> Robot:
        super().__enter__()
        self.cameras = {
            topic: self.node.create_publisher(self._kind, f"{self._namespace}/{topic}", 5) for topic in self._topics
        }
        self.images = self.cameras[self._topics[0]]
        self.questions = self.node.create_publisher(String, f"{self._at}/question", 10)
        self.cancel = self.node.create_publisher(String, f"{self._at}/cancel", 10)
        self.node.create_subscription(MemoryStatus, f"{self._at}/status", self._on_status, 10)
        self.node.create_subscription(String, f"{self._at}/answer", lambda m: self.answers.append(m.data), 10)
        every = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)  # also those that come at once
        self.node.create_subscription(SceneSummary, f"{self._namespace}/scene_summary", self.summaries.append, every)
        return self

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 100.0) -> None:
        until = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < until, f"not within {timeout_s} s; newest status: {self.status}"
            self.spin(0.02)

    def wait_until_ready(self) -> None:
        """The node answers and receives this robot's cameras, and this robot receives the node's status."""
        self.ask_when_ready(self.request("ready?"), START_S)
        useless = from_rgb(np.zeros((60, 80, 3), np.uint8), 0, "", Image) if self._kind is Image else self._kind()
        for camera in self.cameras.values():
            self.wait_for(lambda camera=camera: camera.get_subscription_count() > 0 and self.status is not None)
            # Either side may discover the other first: these unusable images are counted and have no other effect.
            before = self.status.frames_received

            def received(camera: Any = camera, before: int = before) -> bool:
                camera.publish(useless)
                return bool(self.status.frames_received > before)

            self.wait_for(received)
        self.fresh_status()

    def see(self, stamps_s: Sequence[float], shape: tuple[int, int] = (120, 160), topic: str = "") -> None:
        """Publish one random image for each stamp."""
        for second in stamps_s:
            rgb = np.random.default_rng(int(second * 10)).integers(0, 255, (*shape, 3), dtype=np.uint8)
            self.show(from_rgb(rgb, round(second * SECOND), "camera_optical", Image), topic)

    def show(self, image: Any, topic: str = "") -> None:
        """Publish an image and wait until the node has handled it, so that the next does not replace it."""
        before = self.status.frames_received
        self.cameras[topic or self._topics[0]].publish(image)
        self.wait_for(lambda: self.status.frames_received > before and self.status.frames_pending == 0)

    def fresh_status(self) -> Any:
        """A status sent after everything received so far was handled."""
        before = self.status
        self.wait_for(lambda: self.status is not before)
        before = self.status
        self.wait_for(lambda: self.status is not before and self.status.frames_pending == 0)
        return self.status

    def drops(self) -> dict[str, int]:
        status = self.fresh_status()
        return {str(reason): int(count) for reason, count in zip(status.drop_reasons, status.drop_counts, strict=True)}

    def _on_status(self, message: Any) -> None:
        self.status = message


class Manager:
    """A lifecycle manager of the node in a robot's namespace: calls its services over DDS."""

    def __init__(self, robot: Robot, namespace: str) -> None:
        self._robot = robot
        self._transition = interface("lifecycle_msgs/msg/Transition")
        kinds = {name: interface(f"lifecycle_msgs/srv/{name}") for name in ("ChangeState", "GetState")}
        at = f"{namespace}/flash_vstream"
        self._change = robot.node.create_client(kinds["ChangeState"], f"{at}/change_state")
        self._get = robot.node.create_client(kinds["GetState"], f"{at}/get_state")
        self.steps: list[tuple[str, str]] = []
        event = interface("lifecycle_msgs/msg/TransitionEvent")
        robot.node.create_subscription(event, f"{at}/transition_event", self._on_event, 10)
        robot.wait_for(lambda: self._change.service_is_ready() and self._get.service_is_ready())

    def _on_event(self, event: Any) -> None:
        self.steps.append((event.start_state.label, event.goal_state.label))

    def ask_for(self, label: str = "", number: int = 0) -> Any:
        """The future of a request for a transition."""
        request = self._change.srv_type.Request(transition=self._transition(id=number, label=label))
        return self._change.call_async(request)

    def change(self, *labels: str) -> list[bool]:
        """Request transitions one after the other. Returns whether each succeeded."""
        results = []
        for label in labels:
            future = self.ask_for(label)
            self._robot.wait_for(future.done)
            results.append(future.result().success)
        return results

    @property
    def state(self) -> str:
        future = self._get.call_async(self._get.srv_type.Request())
        self._robot.wait_for(future.done)
        return str(future.result().current_state.label)


def balanced(status: Any) -> bool:
    accounted = (
        status.frames_encoded
        + status.frames_static
        + status.frames_not_sampled
        + status.frames_dropped
        + status.frames_pending
    )
    return bool(status.frames_received == accounted)
