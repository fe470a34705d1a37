"""XML in the documentation parses, and what it names exists in C++ examples, interfaces, topics and launch files."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TUTORIAL = (ROOT / "docs" / "tutorials" / "ask_from_your_node.md").read_text(encoding="utf-8")
BASIC_PORTS = {"server_name", "server_timeout"}  # of nav2_behavior_tree's BtActionNode
# Nodes of BehaviorTree.CPP and Nav2, and their ports.
KNOWN_NODES = {"Sequence": set[str](), "ScriptCondition": {"code"}, "NavigateToPose": {"goal"}}
ALL_CLIENTS = {"rosout", "parameter_events"}  # topics of every rclpy node
CPP_TYPES = {"string": "std::string", "bool": "bool"}  # of fields
FIELD = re.compile(r"^(\w+) (\w+) +#", re.MULTILINE)
PORT = re.compile(r'BT::(Input|Output)Port<([\w:]+)>\("(\w+)"\)')
MAIN = """
#include <iostream>
int main()
{
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << is_yes(line) << "\\n";
  }
}
"""


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def documented_xml() -> Iterator[tuple[str, ElementTree.Element]]:
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8"), "xml"):
            yield page.name, ElementTree.fromstring(block)


def elements(page: str, tag: str) -> list[ElementTree.Element]:
    """Elements with a tag in the XML of a page; at least one."""
    found = [element for name, root in documented_xml() if name == page for element in root.iter(tag)]
    assert found, f"no <{tag}> in the XML of {page}"
    return found


def plugin() -> str:
    """The C++ of the behaviour tree's node."""
    (code,) = (block for block in blocks(TUTORIAL, "cpp") if "BT_REGISTER_NODES" in block)
    return code


def ports() -> dict[str, tuple[str, str]]:
    """Direction and C++ type of the ports of the behaviour tree's node."""
    return {name: (direction, kind) for direction, kind, name in PORT.findall(plugin())}


def action_fields() -> list[dict[str, str]]:
    """Types of the fields of goal, result and feedback by name."""
    (name,) = re.findall(r"flash_vstream_ros::action::(\w+);", plugin())
    header = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    assert f'#include "flash_vstream_ros/action/{header}.hpp"' in plugin()
    parts = (ROOT / "action" / f"{name}.action").read_text(encoding="utf-8").split("\n---\n")
    return [{name: kind for kind, name in FIELD.findall(part)} for part in parts]


def test_all_xml_of_the_documentation_parses() -> None:
    assert {root.tag for _, root in documented_xml()} == {"root", "policy", "include"}


def test_nodes_of_the_behaviour_tree_have_the_ports_that_it_uses() -> None:
    (registered,) = re.findall(r'registerBuilder<\w+>\(\s*"(\w+)"', plugin())
    known = {**KNOWN_NODES, registered: ports().keys() | BASIC_PORTS}
    (root,) = elements("ask_from_your_node.md", "root")
    trees = {tree.attrib["ID"]: tree for tree in root.iter("BehaviorTree")}
    used = [node for tree in trees.values() for node in tree.iter() if node is not tree]
    assert root.attrib["main_tree_to_execute"] in trees
    assert registered in {node.tag for node in used}
    for node in used:
        assert node.attrib.keys() <= known[node.tag], node.tag


def test_conditions_of_the_behaviour_tree_use_what_its_node_writes() -> None:
    (asking,) = elements("ask_from_your_node.md", "AskScene")
    (action,) = re.findall(r'>\(name, "(\w+)", config\)', plugin())
    assert asking.attrib["server_name"] == action == "ask_scene"
    written = {
        asking.attrib[name].strip("{}"): kind
        for name, (direction, kind) in ports().items()
        if direction == "Output" and name in asking.attrib
    }
    for condition in elements("ask_from_your_node.md", "ScriptCondition"):
        variable, value = re.fullmatch(r"(\w+) == (\w+)", condition.attrib["code"]).groups()  # type: ignore[union-attr]
        assert written[variable] == "bool"
        assert value in ("true", "false")


def test_ports_of_the_behaviour_trees_node_have_the_types_of_the_actions_fields() -> None:
    goal, result, _ = action_fields()
    read = re.findall(r'getInput\("(\w+)", goal_\.(\w+)\)', plugin())
    written = re.findall(r'setOutput\("(\w+)", result_\.result->(\w+)\)', plugin())
    converted = re.findall(r'setOutput\("(\w+)", is_yes\(result_\.result->(\w+)\)\)', plugin())
    assert {name for name, _ in (*read, *written, *converted)} == ports().keys()
    assert all(ports()[port] == ("Input", CPP_TYPES[goal[field]]) for port, field in read)
    assert all(ports()[port] == ("Output", CPP_TYPES[result[field]]) for port, field in written)
    assert all(ports()[port] == ("Output", "bool") and result[field] == "string" for port, field in converted)


def test_the_documented_comparison_knows_yes_in_every_form(tmp_path: Path) -> None:
    compiler = shutil.which("g++") or pytest.skip("no g++")
    (function,) = re.findall(r"^bool is_yes\(.*?^}$", plugin(), re.DOTALL | re.MULTILINE)
    headers = "\n".join(re.findall(r"^#include <.*>$", plugin(), re.MULTILINE))
    source, program = tmp_path / "is_yes.cpp", tmp_path / "is_yes"
    source.write_text(f"{headers}\n{function}\n{MAIN}", encoding="utf-8")
    subprocess.run([compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    answers = {
        **dict.fromkeys(["yes", "Yes.", " YES, it is open", '"Yes"', "[demo model] yes", "[untrained] Yes!"], "1"),
        **dict.fromkeys(["no", "", "[", "[yes", "[yes] no", "Yesterday", "No, yes", "I cannot tell", "[demo]"], "0"),
    }
    done = subprocess.run([program], input="\n".join(answers), capture_output=True, text=True, check=True)
    assert dict(zip(answers, done.stdout.split(), strict=True)) == answers


def test_the_policy_names_topics_and_services_of_the_node() -> None:
    page = (ROOT / "docs" / "reference" / "node.md").read_text(encoding="utf-8")
    offered = dict(re.findall(r"^\| `(\S+)` \((in|out|service)\)", page, re.MULTILINE))
    topics = {topic.text for topic in elements("security.md", "topic")} - ALL_CLIENTS
    (called,) = (kind for kind in elements("security.md", "services") if kind.attrib.get("request") == "ALLOW")
    services = {service.text for service in called}
    assert topics
    assert {offered[topic or ""] for topic in topics} == {"out"}
    assert {offered[service or ""] for service in services} == {"service"}


def test_the_launch_include_gives_arguments_of_the_launch_file() -> None:
    (include,) = elements("node.md", "include")
    path = include.attrib["file"].removeprefix("$(find-pkg-share flash_vstream_ros)/")
    declared = re.findall(r'DeclareLaunchArgument\(\s*"(\w+)"', (ROOT / path).read_text(encoding="utf-8"))
    assert {argument.attrib["name"] for argument in include} <= set(declared)
