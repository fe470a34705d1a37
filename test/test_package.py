"""The metadata for ROS and pip, and the README, agree with the code."""

import re
import subprocess
import sys
from enum import IntEnum
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

import flash_vstream_ros
from flash_vstream_ros.cli import COMMANDS
from flash_vstream_ros.engine.answering.question import ErrorCode
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.memory.slot import EntryKind
from flash_vstream_ros.models.model_kind import ModelKind
from flash_vstream_ros.node.conversions import ENTRY_KIND
from flash_vstream_ros.node.parameter_table import PARAMETERS
from flash_vstream_ros.ros import share
from flash_vstream_ros.ros.images import DEPTH, ENCODINGS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


INTERFACES = sorted([*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv"), *ROOT.glob("action/*.action")])


def flattened(tree: dict, prefix: str = "") -> dict:
    values = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            values |= flattened(value, f"{prefix}{name}.")
        else:
            values[prefix + name] = value
    return values


def constants(file: str) -> dict[str, int]:
    pairs = re.findall(r"^uint\d+ ([A-Z_]+) = (\d+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    return {name: int(value) for name, value in pairs}


@pytest.mark.parametrize(
    ("file", "enum"),
    [
        ("srv/AskScene.srv", ErrorCode),
        ("srv/Search.srv", ErrorCode),
        ("msg/MemoryStatus.msg", State),
    ],
)
def test_interface_constants_equal_those_of_the_code(file: str, enum: type[IntEnum]) -> None:
    own = {name: value for name, value in constants(file).items() if not name.startswith("MODEL_")}
    assert own == {member.name: member.value for member in enum}


def test_model_and_entry_kinds_equal_those_of_the_code() -> None:
    for file in ("srv/AskScene.srv", "srv/Search.srv", "msg/Event.msg"):
        models = {name: value for name, value in constants(file).items() if name.startswith("MODEL_")}
        assert models == {f"MODEL_{kind.name}": kind.value for kind in ModelKind}
    assert sorted(ENTRY_KIND) == sorted(EntryKind)
    assert sorted(ENTRY_KIND.values()) == sorted(constants("msg/MemoryEntry.msg").values())


def fields(section: str) -> list[tuple[str, ...]]:
    """Types and names, and values of constants, in a section of an interface."""
    return [tuple(line.partition("#")[0].split()) for line in section.splitlines() if line.partition("#")[0].strip()]


def test_the_action_has_the_fields_of_the_service() -> None:
    request, reply = (ROOT / "srv" / "AskScene.srv").read_text(encoding="utf-8").split("\n---\n")
    goal, result, _ = (ROOT / "action" / "AskScene.action").read_text(encoding="utf-8").split("\n---\n")
    assert fields(goal) == fields(request)
    assert fields(result) == fields(reply)


@pytest.mark.parametrize("name", ["Forget", "ListMemory", "AddWatch", "RemoveWatch", "ListWatches"])
def test_every_service_has_the_error_codes_of_ask_scene(name: str) -> None:
    codes = constants(f"srv/{name}.srv")
    assert {"NONE", "NOT_READY", "TIMEOUT", "INVALID_REQUEST", "INTERNAL"} == set(codes)
    assert codes.items() <= {member.name: member.value for member in ErrorCode}.items()


@pytest.mark.parametrize("file", INTERFACES, ids=lambda file: file.name)
def test_every_field_of_an_interface_is_explained(file: Path) -> None:
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.lstrip().startswith(("#", "---")):
            assert re.search(r"\S +# \S", line), f"{file.name}: {line}"


@pytest.mark.parametrize("file", INTERFACES, ids=lambda file: file.name)
def test_cmake_generates_every_interface(file: Path) -> None:
    assert f'"{file.parent.name}/{file.name}"' in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", ["config", "launch"])
def test_pip_and_cmake_install_the_files_that_users_name(folder: str, tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "--quiet", "install_data", "--install-dir", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    installed = {file.name for file in (tmp_path / "share" / "flash_vstream_ros" / folder).iterdir()}
    assert installed == {file.name for file in (ROOT / folder).iterdir() if file.is_file()}
    (directories,) = re.findall(
        r"install\(DIRECTORY ([\w ]+) DESTINATION share/\$\{PROJECT_NAME\}\)",
        (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"),
    )
    assert folder in directories.split()


def test_the_interfaces_are_installed_after_they_are_generated() -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert cmake.index("rosidl_generate_interfaces") < cmake.index("install(DIRECTORY ${PROJECT_NAME}/")


def test_the_yaml_file_holds_every_parameter_with_its_default() -> None:
    tree = yaml.safe_load((ROOT / "config" / "vstream.yaml").read_text(encoding="utf-8"))
    values = flattened(tree["/**"]["ros__parameters"])
    expected = {spec.name: spec.default for spec in PARAMETERS}
    assert values == expected
    assert {name: type(value) for name, value in values.items()} == {n: type(v) for n, v in expected.items()}


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_the_node_page_names_every_state(state: State) -> None:
    assert f"`{state.name}`" in page("reference/node.md")


def test_the_camera_page_lists_the_image_encodings() -> None:
    table = page("reference/cameras.md").split("| Encoding (raw) |")[1].split("\n\n")[0].splitlines()[2:]
    listed = [encoding for row in table for encoding in row.split("|")[1].strip().split(", ")]
    assert sorted(listed) == sorted({*ENCODINGS, *DEPTH})


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_shows_every_command(command: str) -> None:
    assert f"flash-vstream-ros {command}" in README


def test_every_file_has_the_same_version() -> None:
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert manifest.findtext("version") == flash_vstream_ros.__version__
    assert f'version="{flash_vstream_ros.__version__}"' in setup
    assert "TODO" not in ElementTree.tostring(manifest, encoding="unicode")


def test_package_xml_names_what_the_generator_and_the_node_need() -> None:
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    named = {element.text for element in manifest}
    assert {"rosidl_default_generators", "rosidl_default_runtime", "rosidl_interface_packages"} <= named
    assert {"rclpy", "launch", "launch_ros"} <= named
    code = [file for file in (ROOT / "flash_vstream_ros").rglob("*.py") if file.parent.name != "embedded"]
    text = "\n".join(file.read_text(encoding="utf-8") for file in code)
    packages = set(re.findall(r'"(\w+)/(?:msg|srv)/\w+"', text)) | set(
        re.findall(r"^from (\w+)\.msg ", text, re.MULTILINE)
    )
    assert {"sensor_msgs", "lifecycle_msgs", "rcl_interfaces"} <= packages
    assert packages - {"flash_vstream_ros", ""} <= named
    found = set(re.findall(r"find_package\((\w+) REQUIRED\)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")))
    assert "ament_cmake_pytest" in found <= named
    assert manifest.findtext("export/build_type") == "ament_cmake"
    assert manifest.get("format") == "3"


def test_an_unset_ament_prefix_path_gives_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ament_index_python", reason="only ROS 2 has an ament index")
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    assert share._from_ament_index() == []


def test_interfaces_and_client_are_imported_without_torch() -> None:
    program = (
        "import sys, flash_vstream_ros.client, flash_vstream_ros.ros.interfaces, flash_vstream_ros.ros.images;"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_the_help_of_the_command_line_needs_no_torch() -> None:
    program = (
        "import sys, contextlib, io\n"
        "from flash_vstream_ros.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main(['--help'])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
