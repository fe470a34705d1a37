"""Several cameras at full rate during questions: what happens to every image, and how long callbacks take.

The real node, with the tiny model, runs in this process. Each camera and the client that asks have processes of their
own. Each image that was sent is either received and counted by the engine, or missing: the stamps have a gap. A missing
image is attributed to the queue or to the network.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flash_vstream_ros.instruments import camera_process
from flash_vstream_ros.instruments.camera_process import DEPTH, frame_number

if TYPE_CHECKING:
    from flash_vstream_ros.client import AskClient
    from flash_vstream_ros.engine.ingest.mailbox import FrameCounts

PARAMETERS = (
    "model.name:=tiny-random",
    "model.max_pixels:=50176",
    "question.max_new_tokens:=16",
    "static.threshold:=0.0",  # filter off, since each camera repeats one image
)
ASK_EVERY_S = 1.0
DRAIN_S = 10.0
START_S = 120.0
READY = "ready"
UNANSWERED, NO_FRAMES = -1, 2  # NO_FRAMES as in srv/AskScene.srv
KERNEL_COUNTERS = Path("/proc/net/snmp")


@dataclass(frozen=True)
class Arrival:
    """An image in the callback: its number in the stream, and the begin and duration of the callback [s].

    `cpu_s` is the processor time of the callback. For the rest of `duration_s` the callback waited for a processor, a
    lock or the interpreter.
    """

    number: int
    at_s: float
    duration_s: float
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Account:
    """Counts of one camera's images by outcome. sent = received + queue_overran + lost_on_the_wire."""

    sent: int
    received: int
    queue_overran: int  # replaced in the subscription's full queue
    lost_on_the_wire: int
    encoded: int
    not_sampled: int
    pending: int
    dropped: dict[str, int]
    given_up: int  # dropped by the camera itself; included in `lost_on_the_wire`
    late_s: float  # largest delay of the camera
    static: int = 0

    @property
    def balanced(self) -> bool:
        accounted = self.encoded + self.static + self.not_sampled + self.pending + sum(self.dropped.values())
        return self.received == accounted and self.sent == self.received + self.queue_overran + self.lost_on_the_wire


def account(report: Mapping[str, float], arrivals: Sequence[Arrival], counts: FrameCounts, hertz: float) -> Account:
    """Account for a camera's images, from the camera's report and the arrivals.

    If the image after a gap came so late that the queue was full, the missing images were replaced in the queue;
    otherwise they were lost on the wire.
    """
    sent = int(report["sent"])
    overran = lost = 0
    on_time_s = min((arrival.at_s - arrival.number / hertz for arrival in arrivals), default=0.0)
    expected = 0
    for arrival in sorted(arrivals, key=lambda one: one.number):
        missing = max(arrival.number - expected, 0)
        late = arrival.at_s - arrival.number / hertz - on_time_s >= (DEPTH - 1) / hertz
        overran, lost = (overran + missing, lost) if late else (overran, lost + missing)
        expected = arrival.number + 1
    return Account(
        sent=sent,
        received=counts.received,
        queue_overran=overran,
        lost_on_the_wire=lost + sent - expected,
        encoded=counts.encoded,
        not_sampled=counts.not_sampled,
        pending=counts.pending,
        dropped=dict(counts.drops),
        given_up=int(report["given_up"]),
        late_s=report["late_s"],
        static=counts.static,
    )


class Recording(NamedTuple):
    """What a run recorded; mappings are by camera."""

    arrivals: dict[str, list[Arrival]]
    reports: dict[str, dict[str, float]]  # of the camera processes
    counts: dict[str, FrameCounts]  # of the engine
    answers: list[tuple[int, float]]  # error code and duration [s]
    dropped_datagrams: int  # by the kernel


def run(
    count: int = 3,
    width: int = 1280,
    height: int = 720,
    hertz: float = 30.0,
    seconds: float = 60.0,
    reliability: str = "best_effort",
) -> dict[str, Any]:
    """An account per camera, the callbacks' durations, the answers, and the datagrams that the kernel dropped."""
    from flash_vstream_ros.ros.middleware import use_shipped_profile
    from flash_vstream_ros.ros.private_domain import use_private_domain

    use_private_domain()
    use_shipped_profile()
    recording = _record([f"camera{index}" for index in range(count)], width, height, hertz, seconds, reliability)
    settings = {"width": width, "height": height, "hertz": hertz, "seconds": seconds, "reliability": reliability}
    return {**settings, **_figures(recording, hertz)}


def _record(names: Sequence[str], width: int, height: int, hertz: float, seconds: float, reliability: str) -> Recording:
    """Run the node, a camera process for each of `names`, and the asking process."""
    from flash_vstream_ros.instruments.running_node import running_node
    from flash_vstream_ros.node.cameras import Camera, camera_topics
    from flash_vstream_ros.node.vstream_node import PROGRAM_HOOKS, VStreamNode
    from flash_vstream_ros.ros.stamps import stamp_ns

    arrivals: dict[str, list[Arrival]] = {name: [] for name in names}

    class TimedCamera(Camera):
        def _receive(self, message: Any) -> None:
            cpu_s, began = time.thread_time(), time.perf_counter()
            super()._receive(message)
            duration_s, cpu_s = time.perf_counter() - began, time.thread_time() - cpu_s
            number = frame_number(stamp_ns(message.header.stamp), hertz)
            arrivals[self.name].append(Arrival(number, began, duration_s, cpu_s))

    class TimedNode(VStreamNode):
        camera_type = TimedCamera

    parameters = [*PARAMETERS, f"cameras:=[{','.join(names)}]"]
    arguments = ["bench", "--ros-args", *(word for parameter in parameters for word in ("-p", parameter))]
    frames = round(hertz * seconds)
    dropped_before = dropped_by_kernel()
    with running_node(TimedNode, arguments, PROGRAM_HOOKS) as (node, _):
        asker = _start_asking()
        try:
            _wait_for_model(asker)
            drivers = [
                camera_process.start(topic, width, height, hertz, frames, reliability)
                for topic in camera_topics(names).values()
            ]
            reports = [json.loads(driver.communicate(timeout=seconds + START_S)[0]) for driver in drivers]
            answers = json.loads(asker.communicate(input="stop\n", timeout=START_S)[0])
        finally:
            asker.kill()
        counts = _settled(node)
    return Recording(
        arrivals, dict(zip(names, reports, strict=True)), counts, answers, dropped_by_kernel() - dropped_before
    )


def _figures(recording: Recording, hertz: float) -> dict[str, Any]:
    accounts = {
        name: account(report, recording.arrivals[name], recording.counts[name], hertz)
        for name, report in recording.reports.items()
    }
    lost = sum(account.lost_on_the_wire - account.given_up for account in accounts.values())
    answered = [duration for code, duration in recording.answers if code == 0]
    callback_s = [arrival.duration_s for own in recording.arrivals.values() for arrival in own]
    cpu_s = [arrival.cpu_s for own in recording.arrivals.values() for arrival in own]
    return {
        "cameras": {name: asdict(account) for name, account in accounts.items()},
        "balanced": all(account.balanced for account in accounts.values()),
        "datagrams_dropped_by_kernel": recording.dropped_datagrams,
        "unexplained": max(0, lost - recording.dropped_datagrams),  # one lost datagram loses the whole image
        "callback_p50_s": statistics.median(callback_s) if callback_s else 0.0,
        "callback_p99_s": p99(callback_s),
        "callback_cpu_p50_s": statistics.median(cpu_s) if cpu_s else 0.0,
        "callback_cpu_p99_s": p99(cpu_s),
        "callback_longest_s": max(callback_s, default=0.0),
        "answered": len(answered),
        "asked_too_early": sum(code == NO_FRAMES for code, _ in recording.answers),
        "not_answered": sum(code not in (0, NO_FRAMES) for code, _ in recording.answers),
        "answer_p50_s": statistics.median(answered) if answered else 0.0,
    }


def p99(durations_s: Sequence[float]) -> float:
    """The 99th percentile; 0 for fewer than two durations."""
    return statistics.quantiles(durations_s, n=100, method="inclusive")[98] if len(durations_s) > 1 else 0.0


def dropped_by_kernel() -> int:
    """UDP datagrams that the kernel dropped since its start because a receive buffer was full; 0 if unknown."""
    if not KERNEL_COUNTERS.exists():
        return 0
    names, values = (line.split() for line in KERNEL_COUNTERS.read_text().splitlines() if line.startswith("Udp:"))
    return int(dict(zip(names, values, strict=True)).get("RcvbufErrors", 0))


def _settled(node: Any) -> dict[str, FrameCounts]:
    """The engine's counts once no frame is pending."""
    until = time.monotonic() + DRAIN_S
    while True:
        counts: dict[str, FrameCounts] = dict(node._engine.status().cameras)
        if time.monotonic() > until or not any(count.pending for count in counts.values()):
            return counts
        time.sleep(0.1)


def _start_asking() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", __name__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _wait_for_model(asker: subprocess.Popen[str]) -> None:
    assert asker.stdout is not None
    if READY not in map(str.strip, asker.stdout):
        raise RuntimeError("the node did not answer its first question; its log above says why")


def ask_until_stopped() -> None:
    """Main of the asking process: prints READY once the node answers, and its answers as JSON after a line on stdin."""
    import threading

    from flash_vstream_ros.client import AskClient

    stop = threading.Event()

    def wait_for_line() -> None:
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=wait_for_line, daemon=True).start()
    answers: list[tuple[int, float]] = []
    with AskClient("ask_scene") as client:
        client.ask_when_ready(client.request("Are you there?"), START_S)
        print(READY, flush=True)
        while not stop.wait(ASK_EVERY_S):
            answers.append(_answer(client))
    print(json.dumps(answers))


def _answer(client: AskClient) -> tuple[int, float]:
    """Ask a question. Returns error code and duration [s]."""
    from flash_vstream_ros.client import NoReply
    from flash_vstream_ros.ros.stamps import seconds

    try:
        reply = client.ask(client.request("What is there?", deadline_s=START_S))
    except NoReply:
        return UNANSWERED, START_S
    return int(reply.error_code), seconds(reply.duration)


def show(result: dict[str, Any]) -> None:
    size = f"{result['width']}x{result['height']} rgb8 at {result['hertz']:g} Hz"
    print(f"{len(result['cameras'])} cameras, {size}, {result['reliability']}")
    for name, own in result["cameras"].items():
        drops = ", ".join(f"{reason} {count}" for reason, count in own["dropped"].items()) or "none"
        print(
            f"{name}: {own['received']} of {own['sent']} received; missing: {own['queue_overran']} queue overran,"
            f" {own['lost_on_the_wire']} lost on the wire ({own['given_up']} given up by the camera);"
            f" of those received {own['encoded']} encoded, {own['static']} static, {own['not_sampled']} not sampled,"
            f" {own['pending']} pending,"
            f" dropped: {drops}"
        )
    print(
        f"accounts {'balance' if result['balanced'] else 'DO NOT BALANCE'}; {result['unexplained']} unexplained;"
        f" the kernel dropped {result['datagrams_dropped_by_kernel']} datagrams"
    )
    print(
        f"callback {1e3 * result['callback_p50_s']:.3f} ms (p99 {1e3 * result['callback_p99_s']:.3f} ms, longest"
        f" {1e3 * result['callback_longest_s']:.1f} ms);"
        f" processor time of it {1e3 * result['callback_cpu_p50_s']:.3f} ms"
        f" (p99 {1e3 * result['callback_cpu_p99_s']:.3f} ms)"
    )
    print(
        f"{result['answered']} questions answered, median {result['answer_p50_s']:.2f} s,"
        f" {result['asked_too_early']} asked before the first slot, {result['not_answered']} not answered"
    )


if __name__ == "__main__":
    ask_until_stopped()
