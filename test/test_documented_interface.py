"""The documented topics, services and launch arguments against the node and the launch file."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from conftest import wait_until
from robot import new_namespace

from flash_vstream_ros.engine.state import State
from flash_vstream_ros.instruments.running_node import running_node
from flash_vstream_ros.node.cameras import full_topic
from flash_vstream_ros.node.managed_node import ManagedNode
from flash_vstream_ros.node.memory_view import PLACES
from flash_vstream_ros.node.parameter_table import PARAMETERS
from flash_vstream_ros.node.place_markers import marker_array_type
from flash_vstream_ros.node.vstream_node import VStreamNode
from flash_vstream_ros.ros import Context, DurabilityPolicy, Node, QoSProfile, ReliabilityPolicy, init

ROOT = Path(__file__).parents[1]
NODE_PAGE = (ROOT / "docs" / "reference" / "node.md").read_text(encoding="utf-8")


def rows(*headings: str) -> list[list[str]]:
    """The cells of the table that has these headings first, without its first two lines."""
    table = NODE_PAGE.split(f"| {' | '.join(headings)} |", 1)[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


class Offer(NamedTuple):
    """A row of the table of topics and services."""

    what: str  # in, out or service
    type_name: str
    qos: str


def documented() -> dict[str, Offer]:
    found = {}
    for cells in rows("Topic or service", "Type", "QoS", "What"):
        name, what = re.fullmatch(r"`(\S+)` \((in|out|service)\)", cells[0]).groups()  # type: ignore[union-attr]
        found[name] = Offer(what, cells[1].strip("`"), cells[2])
    return found


def in_words(qos: QoSProfile) -> str:
    parts = ["reliable" if qos.reliability == ReliabilityPolicy.RELIABLE else "best effort"]
    parts += ["latched"] * (qos.durability == DurabilityPolicy.TRANSIENT_LOCAL)
    return ", ".join([*parts, f"depth {qos.depth}"])


def offers(node: Any) -> dict[str, Offer]:
    """Topics and services of a node by relative name, and the QoS of its topics."""
    me, space = node.get_name(), node.get_namespace()

    def relative(name: str) -> str:
        return name.replace(f"{space}/{me}/", "~/").removeprefix(f"{space}/")

    def short(types: Iterable[str]) -> str:
        return re.sub(r"/\w+/", "/", *types)

    found = {}
    for what, on_graph, entities in (
        ("out", node.get_publisher_names_and_types_by_node, node.publishers),
        ("in", node.get_subscriber_names_and_types_by_node, node.subscriptions),
    ):
        qos = {entity.topic_name: in_words(entity.qos_profile) for entity in entities}
        for name, types in on_graph(me, space):
            found[relative(name)] = Offer(what, short(types), qos.get(name, ""))
    for name, types in node.get_service_names_and_types_by_node(me, space):
        found[relative(name)] = Offer("service", short(types), "")
    return {name: offer for name, offer in found.items() if "/_action/" not in name}  # they make up an action


@pytest.fixture(scope="module", params=["image", "image/compressed"])
def active(request: pytest.FixtureRequest) -> Iterator[tuple[str, VStreamNode]]:
    """The topic of the camera, and the node when it listens to it."""
    transport = "compressed" if "compressed" in request.param else "raw"
    given = ["model.name:=tiny-random", f"image.transport:={transport}"]
    args = [
        "test",
        "--ros-args",
        "-r",
        f"__ns:={new_namespace()}",
        *(word for each in given for word in ("-p", each)),
    ]
    with running_node(VStreamNode, args) as (node, _):
        assert wait_until(lambda: node._engine.state is State.READY, 120.0)
        yield request.param, node


def beyond(node: Any, plain: Any) -> dict[str, Offer]:
    """Topics and services of a node that a plain node does not have."""
    common = offers(plain)
    return {name: offer for name, offer in offers(node).items() if name not in common}


def kinds(table: dict[str, Offer]) -> dict[str, tuple[str, str]]:
    return {name: offer[:2] for name, offer in table.items()}


def test_the_table_of_topics_and_services_is_what_the_node_offers(active: tuple[str, VStreamNode]) -> None:
    image, node = active
    plain = ManagedNode("plain")
    table = {name: offer for name, offer in documented().items() if "image" not in name or name == image}
    if marker_array_type() is None:
        del table[PLACES]
    wait_until(lambda: kinds(beyond(node, plain)) == kinds(table))  # the graph is discovered step by step
    own = beyond(node, plain)
    plain.destroy_node()
    assert kinds(table) == kinds(own)
    sensor_data = documented()["image"].qos
    assert sensor_data.startswith(f"sensor data: {own[image].qos};")
    assert table[image].qos in (sensor_data, "the same")
    assert {name: offer.qos for name, offer in table.items() if name != image} == {
        name: offer.qos for name, offer in own.items() if name != image
    }


def test_the_node_page_names_what_makes_it_a_managed_node(active: tuple[str, VStreamNode]) -> None:
    simple, managed = Node("simple"), ManagedNode("managed")
    (sentence,) = re.findall(r"^It is a managed node .*$", NODE_PAGE, re.MULTILINE)
    named = set(re.findall(r"`(~/\w+)`", sentence))
    wait_until(lambda: set(beyond(managed, simple)) == named)
    assert set(beyond(managed, simple)) == named <= set(offers(active[1]))
    simple.destroy_node()
    managed.destroy_node()


def stand_ins() -> dict[str, ModuleType]:
    """Stand-ins for the parts of launch that the launch file uses, since ROS is not installed."""

    class LaunchConfiguration(SimpleNamespace):
        def __init__(self, name: str) -> None:
            super().__init__(name=name)

        def perform(self, context: Any) -> str:
            return str(context.launch_configurations[self.name])

    def declare(name: str, **facts: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, **facts)

    contents: dict[str, dict[str, Any]] = {
        "ament_index_python": {},
        "ament_index_python.packages": {"get_package_share_directory": lambda _: str(ROOT)},
        "launch": {"LaunchContext": SimpleNamespace, "LaunchDescription": list},
        "launch.actions": {
            "DeclareLaunchArgument": declare,
            "IncludeLaunchDescription": SimpleNamespace,
            "OpaqueFunction": SimpleNamespace,
            "SetEnvironmentVariable": SimpleNamespace,
        },
        "launch.launch_description_sources": {"PythonLaunchDescriptionSource": str},
        "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": dict},
    }
    made = {name: ModuleType(name) for name in contents}
    for name, content in contents.items():
        vars(made[name]).update(content)
    return made


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The launch file, in which a Node is the dictionary of its arguments."""
    return loaded(ROOT / "launch" / "vstream.launch.py", monkeypatch)


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A launch file as a module, in which a Node is the dictionary of its arguments."""
    if "launch_ros" not in sys.modules and importlib.util.find_spec("launch_ros") is None:
        for name, module in stand_ins().items():
            monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location(path.name.partition(".")[0], path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "Node", dict)
    return module


def defaults(launch_file: ModuleType) -> dict[str, str]:
    def text(default: Any) -> str:
        return default if isinstance(default, str) else "".join(part.text for part in default)

    return {argument.name: text(argument.default_value) for argument in launch_file.ARGUMENTS}


def context_of(launch_file: ModuleType, configurations: dict[str, str]) -> Any:
    context = launch_file.LaunchContext()
    vars(context).setdefault("launch_configurations", {})
    context.launch_configurations.update(configurations)
    return context


def launched(launch_file: ModuleType, **given: str) -> dict[str, Any]:
    (node,) = launch_file.start_node(context_of(launch_file, {**defaults(launch_file), **given}))
    return dict(node)


def test_the_table_of_launch_arguments_is_that_of_the_launch_file(launch_file: ModuleType) -> None:
    in_words = {
        "`config/vstream.yaml` of the package": launch_file.DEFAULT_PARAMETERS,
        "as in `params_file`": "",
    }
    table = {
        name.strip("`"): in_words.get(default, default.strip("`"))
        for name, default, _ in rows("Launch argument", "Default", "Meaning")
    }
    assert table == defaults(launch_file)
    assert all(argument.description for argument in launch_file.ARGUMENTS)
    assert Path(launch_file.DEFAULT_PARAMETERS).is_file()


def test_a_launch_without_arguments_overrides_no_parameter(launch_file: ModuleType) -> None:
    node = launched(launch_file)
    assert node["parameters"] == [launch_file.DEFAULT_PARAMETERS, {"use_sim_time": False}]
    assert node["remappings"] == [("image", "image")]
    assert (node["namespace"], node["respawn"]) == ("", False)


def test_launch_arguments_reach_the_node(launch_file: ModuleType) -> None:
    given = {"model": "tiny-random", "autostart": "False", "use_sim_time": "true", "params_file": "mine.yaml"}
    node = launched(
        launch_file, **given, namespace="robot1", image_topic="/front", use_respawn="true", log_level="debug"
    )
    assert node["parameters"] == ["mine.yaml", {"use_sim_time": True, "model.name": "tiny-random", "autostart": False}]
    assert node["remappings"] == [("image", "/front")]
    assert (node["namespace"], node["respawn"], node["arguments"][-1]) == ("robot1", True, "debug")
    assert (ROOT / "scripts" / node["executable"]).is_file()


def test_both_devices_and_the_image_transport_are_launch_arguments(launch_file: ModuleType) -> None:
    node = launched(launch_file, device="cuda:0", vision_device="cuda:1", image_transport="compressed")
    given = {"model.device": "cuda:0", "model.vision_device": "cuda:1", "image.transport": "compressed"}
    assert node["parameters"][1] == {"use_sim_time": False, **given}
    assert given.keys() <= {spec.name for spec in PARAMETERS}


def test_a_launch_argument_that_is_not_a_boolean_is_refused_by_name(launch_file: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="use_respawn is 'often', expected true or false"):
        launched(launch_file, use_respawn="often")


class CameraLaunch(NamedTuple):
    """What a launch file of a camera passes to the node's launch file and to the driver."""

    included: dict[str, str]
    camera: dict[str, Any]


def camera_launch(
    name: str, launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch, **given: str
) -> tuple[ModuleType, CameraLaunch]:
    file = loaded(ROOT / "launch" / f"{name}.launch.py", monkeypatch)
    context = context_of(launch_file, {**defaults(file), **given})

    def resolved(values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value.perform(context) if hasattr(value, "perform") else value for key, value in values.items()}

    included: list[dict[str, Any]] = []
    monkeypatch.setattr(file, "LaunchDescription", list)
    monkeypatch.setattr(
        file, "IncludeLaunchDescription", lambda _, launch_arguments: included.append(resolved(dict(launch_arguments)))
    )
    camera = next(entity for entity in file.generate_launch_description() if isinstance(entity, dict))
    (arguments,) = included
    return file, CameraLaunch(arguments, {**camera, "parameters": [resolved(each) for each in camera["parameters"]]})


@pytest.mark.parametrize("transport", ["", "raw", "compressed"])
@pytest.mark.parametrize(("name", "topic"), [("usb_cam", "image_raw"), ("realsense", "camera/color/image_raw")])
def test_a_camera_launch_file_connects_the_driver_and_the_node(
    name: str, topic: str, transport: str, launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (included, camera) = camera_launch(name, launch_file, monkeypatch, image_transport=transport)
    assert included.keys() <= defaults(launch_file).keys()
    node = launched(launch_file, **included)
    assert node["parameters"][1].get("image.transport", "") == transport
    remaps = [word for source, target in node["remappings"] for word in ("-r", f"{source}:={target}")]
    context = Context()
    init(args=["test", "--ros-args", *remaps], context=context)
    try:
        own = full_topic(Node("probe", context=context), "image", transport or "raw")
    finally:
        context.try_shutdown()
    # As image_transport names it: the suffix comes after the topic of the raw images.
    assert own == f"/{camera['namespace']}/{topic}" + ("/compressed" if transport == "compressed" else "")


def test_the_usb_camera_is_compressed_in_colour(launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (_, camera) = camera_launch("usb_cam", launch_file, monkeypatch, video_device="/dev/video7")
    (parameters,) = camera["parameters"]
    assert parameters == {"video_device": "/dev/video7", "pixel_format": "yuyv2rgb"}


def test_the_table_of_camera_arguments_is_that_of_the_launch_files(
    launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {}
    for name in ("usb_cam", "realsense"):
        file, _ = camera_launch(name, launch_file, monkeypatch)
        assert all(argument.description for argument in file.ARGUMENTS)
        mine = {key: value for key, value in defaults(file).items() if key not in defaults(launch_file)}
        own |= {(f"{name}.launch.py", key): value for key, value in mine.items()}
    table = rows("Launch file", "Argument", "Default", "Meaning")
    assert {(file.strip("`"), name.strip("`")): default.strip("`") for file, name, default, _ in table} == own
