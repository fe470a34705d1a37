"""The doctor's test of the middleware: one process sends a message to another."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from flash_vstream_ros.cli.model_files import FAIL, OK, Check

RECEIVE_S = 2.0  # longest time from the discovery of the talker to its first message
START_S = 10.0  # longest time for the talker's process to start and be discovered
ADVICE = "allow UDP in this machine's firewall; if CYCLONEDDS_URI names a network interface, check that it exists"


def check_loopback(environment: Mapping[str, str] = os.environ, start_s: float = START_S) -> Check:
    """Test in two child processes, so that a middleware that crashes or hangs does not end the doctor."""
    child_environment = dict(environment)
    root = str(Path(__file__).parents[2])
    child_environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])
    topic = f"/flash_vstream_doctor_{os.getpid()}"
    script = "from flash_vstream_ros.cli import loopback; "
    talker = subprocess.Popen(
        [sys.executable, "-c", f"{script}loopback.talk({topic!r})"],
        env=child_environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        listener = subprocess.run(
            [sys.executable, "-c", f"{script}print(loopback.listen({topic!r}, {start_s!r}))"],
            env=child_environment,
            capture_output=True,
            text=True,
            timeout=start_s + 30,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check("loopback", FAIL, "the receiving process does not end", ADVICE)
    finally:
        talker.kill()
        talker.wait()
    lines = listener.stdout.split()
    if listener.returncode or not lines:
        last = (listener.stderr.strip().splitlines() or [f"exit status {listener.returncode}"])[-1]
        return Check("loopback", FAIL, f"the middleware does not start: {last}", ADVICE)
    if lines[-1] == "None":
        return Check("loopback", FAIL, "two processes on this machine exchange no messages", ADVICE)
    return Check("loopback", OK, f"a message from another process after {float(lines[-1]):.2f} s")


def talk(topic: str, seconds: float = 60.0) -> None:
    from flash_vstream_ros import ros
    from flash_vstream_ros.ros.interfaces import String

    ros.init(args=[])
    node = ros.Node("doctor_talker")
    publisher = node.create_publisher(String, topic, 10)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        publisher.publish(String(data="hello"))
        time.sleep(0.05)


def listen(topic: str, start_s: float) -> float | None:
    """Seconds until a message arrives; None if it takes too long.

    The limit is `start_s` seconds for the discovery of the talker, and then RECEIVE_S for a message.
    """
    from flash_vstream_ros import ros
    from flash_vstream_ros.ros.interfaces import String

    ros.init(args=[])
    node = ros.Node("doctor_listener")
    received: list[str] = []
    node.create_subscription(String, topic, lambda message: received.append(message.data), 10)
    executor = ros.SingleThreadedExecutor()
    executor.add_node(node)
    start, found = time.monotonic(), False
    end = start + start_s
    while not received and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
        if not found and node.count_publishers(topic):
            found, end = True, time.monotonic() + RECEIVE_S
    waited = time.monotonic() - start
    ros.shutdown()
    return waited if received else None
