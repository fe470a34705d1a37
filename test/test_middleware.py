"""The middleware profiles: the variables that select them, users' own settings, and the remedy for lost images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flash_vstream_ros.ros import RUNTIME, middleware

ROOT = Path(__file__).parents[1]
LARGEST_IMAGE = 1920 * 1080 * 3


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Act as on rclpy, in a working directory without configuration files."""
    monkeypatch.setattr(middleware, "RUNTIME", "rclpy")
    monkeypatch.chdir(tmp_path)


def prefix(folder: Path, package: str) -> dict[str, str]:
    """The environment of a ROS installation that has this Fast DDS package."""
    (folder / "share" / package).mkdir(parents=True)
    return {"AMENT_PREFIX_PATH": f"{folder / 'elsewhere'}{os.pathsep}{folder}"}


@pytest.mark.parametrize(
    ("package", "variable"),
    [("fastrtps", "FASTRTPS_DEFAULT_PROFILES_FILE"), ("fastdds", "FASTDDS_DEFAULT_PROFILES_FILE")],
    ids=["Jazzy", "Kilted"],
)
def test_the_shipped_profiles_are_used_if_none_is_configured(
    native: None, tmp_path: Path, package: str, variable: str
) -> None:
    environment = prefix(tmp_path, package)
    middleware.use_shipped_profile(environment)
    assert {name for name in environment if "DDS" in name or "RTPS" in name} == {variable, "CYCLONEDDS_URI"}
    for path, name in ((environment[variable], "fastdds.xml"), (environment["CYCLONEDDS_URI"], "cyclonedds.xml")):
        # An installed package has copies of its own.
        used = Path(path.removeprefix("file://"))
        assert used.read_bytes() == (ROOT / "config" / name).read_bytes()


@pytest.mark.parametrize(
    "name", ["FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"]
)
def test_a_users_configuration_is_never_replaced(native: None, tmp_path: Path, name: str) -> None:
    environment = {**prefix(tmp_path, "fastrtps"), name: "mine", "CYCLONEDDS_URI": "<CycloneDDS/>"}
    before = dict(environment)
    middleware.use_shipped_profile(environment)
    assert environment == before


def test_a_profile_in_the_working_directory_is_a_users_configuration(native: None, tmp_path: Path) -> None:
    (tmp_path / "DEFAULT_FASTDDS_PROFILES.xml").write_text("<profiles/>")
    assert set(middleware.shipped_profiles({})) == {"CYCLONEDDS_URI"}


def test_the_embedded_runtime_needs_no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "RUNTIME", "embedded")
    assert middleware.shipped_profiles({}) == {}


@pytest.mark.parametrize(
    ("rmw", "words"),
    [
        ("rmw_fastrtps_cpp", ("FASTRTPS_DEFAULT_PROFILES_FILE=", "fastdds.xml")),
        ("rmw_cyclonedds_cpp", ("net.core.rmem_max", "CYCLONEDDS_URI=file://", "cyclonedds.xml")),
        ("embedded", ("net.core.rmem_max", "the camera's process with CYCLONEDDS_URI")),
        ("rmw_zenoh_cpp", ("the buffers of rmw_zenoh_cpp",)),
    ],
)
def test_the_remedy_is_for_the_middleware_in_use(native: None, rmw: str, words: tuple[str, ...]) -> None:
    sentence = middleware.remedy(rmw, {})
    assert all(word in sentence for word in (*words, "publish reliable", "image.transport: compressed"))


def test_a_process_with_a_profile_is_told_to_configure_only_the_publisher(native: None) -> None:
    assert "both processes" in middleware.remedy("rmw_fastrtps_cpp", {})
    assert "both processes" in middleware.remedy("rmw_fastrtps_cpp", {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"})
    configured = middleware.remedy("rmw_fastrtps_cpp", {"FASTRTPS_DEFAULT_PROFILES_FILE": "mine.xml"})
    assert "start the camera's process with" in configured


def test_the_fast_dds_profile_has_room_for_several_of_the_largest_images() -> None:
    names = {"p": "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"}
    root = ElementTree.parse(ROOT / "config" / "fastdds.xml").getroot()
    shared = next(
        transport
        for transport in root.iterfind(".//p:transport_descriptor", names)
        if transport.findtext("p:type", None, names) == "SHM"
    )
    assert int(shared.findtext("p:segment_size", "0", names)) >= 5 * LARGEST_IMAGE
    assert int(shared.findtext("p:maxMessageSize", "0", names)) >= LARGEST_IMAGE
    used = {element.text for element in root.iterfind(".//p:userTransports/p:transport_id", names)}
    assert used == {element.text for element in root.iterfind(".//p:transport_descriptor/p:transport_id", names)}
    assert root.find(".//p:participant", names).get("is_default_profile") == "true"  # type: ignore[union-attr]


def test_this_middleware_accepts_its_profile_without_a_warning() -> None:
    """The middleware reports a name in the shipped file that it does not know."""
    family = middleware.family_of(middleware.identifier())
    if family is None:
        pytest.skip(f"no profile is shipped for {middleware.identifier()}")
    output, errors = run_node_with(family, family.shipped)
    assert output == "ran\n"
    # Fast DDS reports a shared-memory port that another process, of any domain, takes at the same moment.
    assert [line for line in errors.splitlines() if "Failed init_port" not in line] == [], RUNTIME


def test_errors_of_fast_dds_leave_stdout_to_the_program(tmp_path: Path) -> None:
    family = middleware.family_of(middleware.identifier())
    if family is None or family.file != "fastdds.xml":
        pytest.skip("another middleware")
    profile = tmp_path / "profile.xml"
    shipped = (ROOT / "config" / "fastdds.xml").read_text(encoding="utf-8")
    profile.write_text(shipped.replace("</profiles>", "<unknown/></profiles>"), encoding="utf-8")
    output, errors = run_node_with(family, str(profile))
    assert output == "ran\n"
    assert "unknown" in errors


def run_node_with(family: middleware.Middleware, profile: str) -> tuple[str, str]:
    """Output and errors of a process with one node, whose middleware reads `profile`."""
    script = (
        "from flash_vstream_ros.ros import *; init(args=[]); Node('plain').destroy_node(); shutdown(); print('ran')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment[family.variables[0]] = profile
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr
