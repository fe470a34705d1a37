"""Camera, node and clients as on machines between which multicast does not get through: one names the other.

Processes of one host stand for the machines: their middleware may not use multicast and knows only the peers in
ROS_STATIC_PEERS, as on a network whose access points drop multicast.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("cyclonedds")

from conftest import ROOT, Process
from robot import START_S, NodeProcess

from flash_vstream_ros.engine.answering.question import ErrorCode

PATIENT_S = 60.0
ANNOUNCED_EVERY_S = 1  # Cyclone's default of 30 s makes tests wait
NO_MULTICAST = (
    '<CycloneDDS><Domain><General><Interfaces><NetworkInterface address="127.0.0.1"/></Interfaces>'
    "<AllowMulticast>false</AllowMulticast></General><Discovery>"
    f'<SPDPInterval>{ANNOUNCED_EVERY_S}s</SPDPInterval><Peers AddLocalhost="false"/></Discovery></Domain>'
    "</CycloneDDS>"
)
ALONE = {
    "FLASH_VSTREAM_RUNTIME": "embedded",
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
    "CYCLONEDDS_URI": NO_MULTICAST,
    "ROS_STATIC_PEERS": "",
}
NAMES_THE_OTHER = {**ALONE, "ROS_STATIC_PEERS": "127.0.0.1"}

CAMERA = """
import time
from flash_vstream_ros.ros import *
from flash_vstream_ros.ros.interfaces import Image
init()
publisher = Node("camera").create_publisher(Image, "image", qos_profile_sensor_data)
print("up")
while True:
    publisher.publish(Image(height=1, width=2, step=2, encoding="mono8", data=[7, 8]))
    time.sleep(0.05)
"""

LISTENER = """
from flash_vstream_ros.ros import *
from flash_vstream_ros.ros.interfaces import Image
init()
node = Node("listener")
node.create_subscription(Image, "image", lambda image: print("seen", *image.data), qos_profile_sensor_data)
print("up")
spin(node)
"""


@pytest.mark.parametrize(
    ("camera", "listener"), [(NAMES_THE_OTHER, ALONE), (ALONE, NAMES_THE_OTHER)], ids=["the camera", "the listener"]
)
def test_two_machines_meet_if_one_names_the_other(
    start: Callable[..., Process], camera: dict[str, str], listener: dict[str, str]
) -> None:
    hearing = start(LISTENER, **listener)
    hearing.expect("up", PATIENT_S)
    start(CAMERA, **camera).expect("up", PATIENT_S)
    hearing.expect("seen 7 8", PATIENT_S)


def test_machines_that_name_nobody_do_not_meet(start: Callable[..., Process]) -> None:
    lonely, led = start(LISTENER, **ALONE), start(LISTENER, **NAMES_THE_OTHER)
    for listener in (lonely, led):
        listener.expect("up", PATIENT_S)
    start(CAMERA, **ALONE).expect("up", PATIENT_S)
    led.expect("seen 7 8", PATIENT_S)
    time.sleep(3 * ANNOUNCED_EVERY_S)
    assert lonely.lines == ["up"]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeProcess]:
    """The node's machine, which names no peer; the clients' machines name it."""
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)
    with NodeProcess(tmp_path, namespace="/far") as process:
        yield process


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flash_vstream_ros.cli", *command], cwd=ROOT, text=True, capture_output=True, check=False
    )


@pytest.mark.usefixtures("node")
def test_a_remote_node_answers_only_clients_that_name_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ("ask", "Where am I?", "--service", "/far/ask_scene", "--json", "--wait")
    monkeypatch.setenv("ROS_STATIC_PEERS", "127.0.0.1")
    reply = run(*ask, str(START_S))
    assert json.loads(reply.stdout)["error_code"] == ErrorCode.NO_FRAMES, reply.stderr
    monkeypatch.setenv("ROS_STATIC_PEERS", "")
    assert "no node offers /far/ask_scene" in run(*ask, "3").stderr
