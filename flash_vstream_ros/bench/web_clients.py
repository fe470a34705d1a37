"""What pages of `flash-vstream-ros web` cost the node: answers and frames with many clients, one of them stuck, and
without any.

Node, camera, web server and this process, which asks, communicate over DDS. Rounds with clients and without alternate,
so that other work on the machine affects both alike. Each client follows the events and fetches every image, as a page
does; the stuck one never reads.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flash_vstream_ros.models.names import HOUSEHOLD
from flash_vstream_ros.progress import tracked

from .errors import BenchmarkError

START_S = 200.0
WAIT_S = 60.0
CAMERA = ("replay", "demo", "--loop", "--fps", "1", "--start-at", "1000")
LISTS = {"memory": "entries", "newest": "pictures"}  # fields with images, by kind of event
QUESTION = "Where did you see the red ball?"


@dataclass
class Round:
    """Figures of one round. Durations in seconds; frames are those of the node's status."""

    clients: int
    answer_s: list[float] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0
    received: int = 0
    encoded: int = 0
    dropped: int = 0
    events: int = 0  # lines that the clients read
    images: int = 0
    server_bytes: int = 0  # resident memory of the web server at the end


class Clients:
    """Clients of the web server, in threads. `count` of them, the last one stuck."""

    def __init__(self, port: int, count: int) -> None:
        self.events = self.images = 0
        self.failures: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._lock = threading.Lock()
        targets = [self._follow] * (count - 1) + [self._stick]
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets[:count]]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _follow(self) -> None:
        try:
            self._read_events()
        except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")

    def _read_events(self) -> None:
        known: set[str] = set()
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)) as connection:
            connection.request("GET", "/api/events")
            for line in connection.getresponse():
                event = json.loads(line)
                shown = {item["image"] for item in event.get(LISTS.get(event["kind"], ""), ())}
                for name in shown - known - {""}:
                    self._fetch(name)
                known |= shown
                with self._lock:
                    self.events += 1
                if self._stop.is_set():
                    return
        if not self._stop.is_set():
            raise ValueError("the server ended the stream of events")

    def _fetch(self, name: str) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)) as connection:
            connection.request("GET", f"/api/images/{name}")
            length = len(connection.getresponse().read())
        with self._lock:
            self.images += length > 0

    def _stick(self) -> None:
        """Ask for the events, and read nothing."""
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.connect(("127.0.0.1", self._port))
            stuck.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())
            self._stop.wait()


def run(clients: int = 20, minutes: float = 10.0, round_s: float = 60.0, rate: float = 4.0) -> dict[str, Any]:
    """Rounds with clients, `minutes` in all, and as many without."""
    from flash_vstream_ros.ros.middleware import use_shipped_profile
    from flash_vstream_ros.ros.private_domain import use_private_domain

    use_private_domain()
    use_shipped_profile()
    with _running(rate) as (client, port, web):
        count = 2 * max(round(minutes * 60 / round_s), 1)
        numbers = tracked(range(count), "rounds", total=count)
        rounds = [_round(client, port, web, clients if number % 2 else 0, round_s) for number in numbers]
    return {
        "clients": clients,
        "round_s": round_s,
        "rate": rate,
        **figures(rounds),
        "rounds": [vars(r) for r in rounds],
    }


@contextmanager
def _running(rate: float) -> Iterator[tuple[Any, int, int]]:
    """Node, camera and web server in processes. Yields a client, the port and the process id of the server."""
    from flash_vstream_ros.client import AskClient
    from flash_vstream_ros.demo.simulated_run import process
    from flash_vstream_ros.ros.share import household_parameters

    with tempfile.TemporaryDirectory(prefix="flash_vstream_") as folder, ExitStack() as running:
        log = Path(folder) / "web.log"
        node = ["node", "--model", HOUSEHOLD, "--params-file", household_parameters()]
        running.enter_context(process(node, Path(folder) / "node.log"))
        web = running.enter_context(process(["web", "--port", "0"], log))
        client = running.enter_context(AskClient("ask_scene"))
        client.ask_when_ready(client.request(QUESTION), START_S)
        running.enter_context(process([*CAMERA, "--rate", str(rate)], Path(folder) / "camera.log"))
        until = time.monotonic() + START_S
        while client.ask(client.request(QUESTION)).error_code or not (found := re.search(r":(\d+)\n", log.read_text())):
            if web.poll() is not None or time.monotonic() > until:
                raise BenchmarkError(f"the node or the web server did not start: {log.read_text()}")
            client.spin(0.5)
        yield client, int(found[1]), web.pid


def _round(client: Any, port: int, web: int, count: int, seconds: float) -> Round:
    result = Round(count)
    before, began = client.next_status(WAIT_S), time.monotonic()
    with Clients(port, count) as clients:
        while time.monotonic() < began + seconds:
            reply = client.ask(client.request(QUESTION))
            if reply.error_code:
                result.failed += 1
            else:
                result.answer_s.append(reply.duration.sec + reply.duration.nanosec * 1e-9)
                first = reply.time_to_first_token
                result.first_token_s.append(first.sec + first.nanosec * 1e-9)
            client.spin(1.0)
        after = client.next_status(WAIT_S)
        result.seconds = time.monotonic() - began
        result.server_bytes = _resident_bytes(web)
    for name in ("received", "encoded", "dropped"):
        setattr(result, name, int(getattr(after, f"frames_{name}") - getattr(before, f"frames_{name}")))
    if clients.failures:
        raise BenchmarkError(f"{len(clients.failures)} clients failed: {clients.failures[0]}")
    result.events, result.images = clients.events, clients.images
    return result


def figures(rounds: list[Round]) -> dict[str, Any]:
    """Ratios of the rounds with clients over those without: medians of all answers, and of the rates of the rounds."""
    with_clients, without = ([r for r in rounds if bool(r.clients) is wanted] for wanted in (True, False))

    def median(chosen: list[Round], name: str) -> float:
        return statistics.median(value for each in chosen for value in getattr(each, name))

    def per_second(chosen: list[Round], name: str) -> float:
        return statistics.median(getattr(each, name) / each.seconds for each in chosen)

    ratios = {
        f"{name}_with_over_without": median(with_clients, f"{name}_s") / median(without, f"{name}_s")
        for name in ("answer", "first_token")
    }
    for name in ("received", "encoded"):
        ratios[f"{name}_with_over_without"] = per_second(with_clients, name) / per_second(without, name)
    return {
        **ratios,
        "answers": [sum(len(each.answer_s) for each in chosen) for chosen in (with_clients, without)],
        "failed": [sum(each.failed for each in chosen) for chosen in (with_clients, without)],
        "dropped": [sum(each.dropped for each in chosen) for chosen in (with_clients, without)],
        "events": sum(each.events for each in with_clients),
        "images": sum(each.images for each in with_clients),
        "server_mib": [each.server_bytes / 2**20 for each in (with_clients[0], with_clients[-1])],
    }


def _resident_bytes(process: int) -> int:
    """Resident memory of a process; 0 where the system does not tell."""
    status = Path(f"/proc/{process}/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else 0


def show(result: dict[str, Any]) -> None:
    print(f"{result['clients']} clients, one of them stuck, over none (medians; rounds of {result['round_s']:g} s):")
    for name in ("answer", "first_token", "received", "encoded"):
        print(f"  {name.replace('_', ' '):12} {result[f'{name}_with_over_without']:.3f}")
    for name in ("answers", "failed", "dropped"):
        print(f"  {name}: {result[name][0]} with clients, {result[name][1]} without")
    print(f"  clients read {result['events']} events and {result['images']} images")
    print(
        "  the web server holds {:.1f} MiB after the first round, {:.1f} MiB after the last".format(
            *result["server_mib"]
        )
    )
