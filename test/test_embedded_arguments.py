"""`--ros-args`, parameter files and remap rules."""

from __future__ import annotations

import pytest

pytest.importorskip("cyclonedds")

from flash_vstream_ros.ros import Node, ROSArgumentError, init, try_shutdown
from flash_vstream_ros.ros.embedded.arguments import Arguments
from flash_vstream_ros.ros.embedded.discovery import Discovery, domain_id_from_environment
from flash_vstream_ros.ros.embedded.logging import LoggingSeverity


def parse(*args: str) -> Arguments:
    return Arguments.parse(["--ros-args", *args])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3.0", 3.0),
        ("1e3", 1000.0),
        ("-2.5e-3", -0.0025),
        ("true", True),
        ("front", "front"),
        ("'3'", "3"),
        ("", ""),
        ("[1, 2]", [1, 2]),
        ("[a, b]", ["a", "b"]),
        ("2026-01-02", "2026-01-02"),
        ("/camera/image:raw", "/camera/image:raw"),
    ],
)
def test_parameters_have_their_yaml_types(text, value):
    found = parse("-p", f"x:={text}").parameter_overrides("/node")["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["-p", "x=3"], "x=3"),
        (["-p"], "-p"),
        (["-p", "x:=[1, a]"], "x:="),
        (["-p", "x:={a: 1}"], "x:="),
        (["-p", "x:=[1"], "x:="),
        (["-r", "image"], "image"),
        (["-r", "image:=bad name"], "bad name"),
        (["-r", "__ns:=relative"], "__ns:=relative"),
        (["--log-level", "loud"], "loud"),
        (["--params-file", "/does/not/exist.yaml"], "/does/not/exist.yaml"),
        (["--sim"], "--sim"),
        (["--enclave", "/a"], "SROS"),
    ],
)
def test_the_error_for_a_malformed_argument_quotes_it(args, reason):
    with pytest.raises(ROSArgumentError) as caught:
        parse(*args)
    assert reason in str(caught.value)


def test_arguments_outside_of_ros_args_are_kept():
    found = Arguments.parse(["ask", "--ros-args", "-p", "a:=1", "--", "-p", "what?", "--ros-args", "-p", "b:=2"])
    assert found.others == ["ask", "-p", "what?"]
    assert found.parameter_overrides("/n") == {"a": 1, "b": 2}


def test_log_levels_are_global_or_by_name():
    found = parse("--log-level", "debug", "--log-level", "cam:=WARN")
    assert found.log_levels == [("", LoggingSeverity.DEBUG), ("cam", LoggingSeverity.WARN)]


FILE = """
/**:
  ros__parameters:
    rate: 1.0
    model: {name: tiny, layers: 2}
cam:
  ros__parameters: {rate: 2.0}
/robot:
  cam:
    ros__parameters: {rate: 3.0}
/*/arm:
  ros__parameters: {rate: 4.0}
/**/leg:
  ros__parameters: {rate: 5.0}
"""


@pytest.mark.parametrize(
    ("node", "rate"),
    [("/other", 1.0), ("/cam", 2.0), ("/robot/cam", 3.0), ("/a/arm", 4.0), ("/a/b/arm", 1.0), ("/a/b/leg", 5.0)],
)
def test_parameter_files_match_node_names_and_wildcards(tmp_path, node, rate):
    path = tmp_path / "p.yaml"
    path.write_text(FILE)
    found = parse("--params-file", str(path)).parameter_overrides(node)
    assert found == {"rate": rate, "model.name": "tiny", "model.layers": 2}


def test_later_arguments_replace_earlier_ones(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("/**: {ros__parameters: {a: 1, b: 1}}")
    found = parse("-p", "a:=0", "--params-file", str(path), "-p", "b:=2", "-p", "cam:b:=3")
    assert found.parameter_overrides("/x") == {"a": 1, "b": 2}
    assert found.parameter_overrides("/ns/cam") == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/**:\n  ros__parameters:\n    a: [1\n", "line 4"),
        ("- 1\n", "node names"),
        ("a: 1\n", "'a'"),
        ("/**:\n  ros__parameters: 3\n", "ros__parameters"),
        ("/**:\n  ros__parameters:\n    a: [1, x]\n", "a"),
        ("ros__parameters:\n  a: 1\n", "/**"),
    ],
)
def test_an_error_in_a_parameter_file_names_file_and_reason(tmp_path, text, reason):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ROSArgumentError) as caught:
        parse("--params-file", str(path))
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


def test_remaps_apply_to_nodes_topics_and_services():
    init(
        args=["--ros-args", "-r", "__ns:=/robot", "-r", "__node:=eyes", "-r", "image:=/camera/image_raw"]
        + ["-r", "ask_service:=ask_me", "-r", "~/status:=state", "-r", "other:chat:=/nowhere"]
    )
    try:
        node = Node("flash", start_parameter_services=False)
        assert node.get_fully_qualified_name() == "/robot/eyes"
        assert node.resolve_topic_name("image") == "/camera/image_raw"
        assert node.resolve_topic_name("~/status") == "/robot/state"
        assert node.resolve_topic_name("~/stream") == "/robot/eyes/stream"
        assert node.resolve_service_name("ask_service") == "/robot/ask_me"
        assert node.resolve_topic_name("ask") == "/robot/ask"
        assert node.resolve_topic_name("chat") == "/robot/chat"
        assert node.get_logger().name == "robot.eyes"
    finally:
        try_shutdown()


@pytest.mark.parametrize(("name", "namespace"), [("bad name", "/"), ("", "/"), ("1st", "/"), ("ok", "/a b")])
def test_names_that_ros_forbids_are_refused(ros, name, namespace):
    with pytest.raises(ValueError, match="Invalid"):
        Node(name, namespace=namespace)


@pytest.mark.parametrize("topic", ["", "a//b", "a b", "/a/", "1a", "~a"])
def test_topic_names_that_ros_forbids_are_refused(ros, topic):
    with pytest.raises(ValueError, match="Invalid topic name"):
        Node("n", start_parameter_services=False).resolve_topic_name(topic)


@pytest.mark.parametrize("text", ["-1", "233", "one", "1.5"])
def test_a_domain_that_does_not_exist_is_refused(text):
    with pytest.raises(ValueError, match="ROS_DOMAIN_ID"):
        domain_id_from_environment({"ROS_DOMAIN_ID": text})


def test_discovery_follows_the_environment():
    local = Discovery.from_environment({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}).configuration()
    assert '<Peer address="localhost"/>' in local
    assert "<AllowMulticast>false</AllowMulticast>" in local
    peers = Discovery.from_environment({"ROS_STATIC_PEERS": "10.0.0.1;10.0.0.2"}).configuration()
    assert '<Peer address="10.0.0.2" PruneDelay="inf"/>' in peers
    assert "AllowMulticast" not in peers
    assert "ros_discovery_off" in Discovery("OFF").configuration()
    with pytest.raises(ValueError, match="EVERYWHERE"):
        Discovery.from_environment({"ROS_AUTOMATIC_DISCOVERY_RANGE": "EVERYWHERE"})
