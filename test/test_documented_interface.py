"""The documented topics, services and launch arguments against the node and the launch file."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from conftest import wait_until
from robot import new_namespace

from flash_vstream_ros.engine.state import State
from flash_vstream_ros.instruments.running_node import running_node
from flash_vstream_ros.node.managed_node import ManagedNode
from flash_vstream_ros.node.memory_view import PLACES
from flash_vstream_ros.node.parameter_table import PARAMETERS
from flash_vstream_ros.node.place_markers import marker_array_type
from flash_vstream_ros.node.vstream_node import VStreamNode
from flash_vstream_ros.ros import DurabilityPolicy, Node, QoSProfile, ReliabilityPolicy

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


def launched(launch_file: ModuleType, **given: str) -> dict[str, Any]:
    context = launch_file.LaunchContext()
    vars(context).setdefault("launch_configurations", {})
    context.launch_configurations.update({**defaults(launch_file), **given})
    (node,) = launch_file.start_node(context)
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


@pytest.mark.parametrize("name", ["usb_cam", "realsense"])
def test_a_launch_example_starts_the_camera_whose_topic_the_node_gets(
    name: str, launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = loaded(ROOT / "examples" / f"{name}.launch.py", monkeypatch)
    included: list[dict[str, Any]] = []
    monkeypatch.setattr(example, "LaunchDescription", list)
    monkeypatch.setattr(
        example, "IncludeLaunchDescription", lambda _, launch_arguments: included.append(dict(launch_arguments))
    )
    camera = next(entity for entity in example.generate_launch_description() if isinstance(entity, dict))
    (arguments,) = included
    assert arguments.keys() <= defaults(launch_file).keys()
    assert arguments["image_topic"].startswith(f"/{camera['namespace']}/")
