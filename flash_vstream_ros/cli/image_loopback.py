"""The doctor's test of the middleware with images: one process sends them to another, as a camera would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from flash_vstream_ros.cli.model_files import FAIL, OK, WARN, Check

NAME = "large images"
WIDTH, HEIGHT, HERTZ, FRAMES = 1280, 720, 15.0, 30
LIMIT_S = 60.0
ENOUGH = 0.9  # share of the images that must arrive


def check_images(environment: Mapping[str, str] = os.environ, frames: int = FRAMES) -> Check:
    """Send best-effort images from a process with this shell's environment to a process configured like the node."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(frames)],
            env={**environment, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        result = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return Check(NAME, FAIL, f"the test did not end within {LIMIT_S:.0f} s", "see loopback")
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return Check(NAME, FAIL, f"the test failed: {last}", "see loopback")
    return judge(**result)


def judge(rmw: str, configured: str, received: int, sent: int, remedy: str) -> Check:
    """The check's result. `configured`: the variable or file that configures the middleware; "" for its defaults."""
    configuration = configured or "its default configuration"
    found = f"{received} of {sent} images of {WIDTH}x{HEIGHT} arrived over {rmw} with {configuration}"
    if received >= ENOUGH * sent:
        return Check(NAME, OK, found)
    return Check(NAME, WARN, found, f"a camera that is started in this shell loses images: {remedy}")


def measure(frames: int) -> dict[str, object]:
    """Send images from a child process to this one. Returns the arguments of `judge`."""
    from flash_vstream_ros.instruments import camera_process
    from flash_vstream_ros.ros import Node, QoSProfile, ReliabilityPolicy, SingleThreadedExecutor, init, middleware
    from flash_vstream_ros.ros.interfaces import Image

    topic = f"/flash_vstream_doctor_{os.getpid()}/image"
    camera = camera_process.start(topic, WIDTH, HEIGHT, HERTZ, frames)  # before this process selects the profile
    environment = dict(os.environ)
    middleware.use_shipped_profile()
    init(args=[])
    rmw = middleware.identifier()
    family = middleware.family_of(rmw)
    node, received = Node(f"doctor_images_{os.getpid()}"), 0

    def receive(_: object) -> None:
        nonlocal received
        received += 1

    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(Image, topic, receive, qos)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    until = time.monotonic() + LIMIT_S
    while camera.poll() is None and time.monotonic() < until:
        executor.spin_once(timeout_sec=0.1)
    camera.kill()
    camera.communicate()
    return {
        "rmw": rmw,
        "configured": family.configuration_source(environment) if family else "",
        "received": received,
        "sent": frames,
        "remedy": middleware.remedy(rmw),
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))), flush=True)
    os._exit(0)
