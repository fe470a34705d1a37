"""Parameters: types, ranges, overrides, callbacks, and the services through which others set them."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("cyclonedds")

from conftest import PATIENCE, reply_of

from flash_vstream_ros.ros import (
    FloatingPointRange,
    IntegerRange,
    Node,
    Parameter,
    ParameterDescriptor,
    SetParametersResult,
    SingleThreadedExecutor,
    init,
    try_shutdown,
)
from flash_vstream_ros.ros.embedded.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterNotDeclaredException,
)
from flash_vstream_ros.ros.interfaces import interface


@pytest.fixture
def node(ros):
    made = Node("tester", parameter_overrides=[Parameter("given", value=7), Parameter("names", value=["a"])])
    yield made
    made.destroy_node()


def result_of(node, name, value):
    (result,) = node.set_parameters([Parameter(name, value=value)])
    return result


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "BOOL"),
        (3, "INTEGER"),
        (3.0, "DOUBLE"),
        ("x", "STRING"),
        ([True], "BOOL_ARRAY"),
        ([1, 2], "INTEGER_ARRAY"),
        ([1.0], "DOUBLE_ARRAY"),
        (["a"], "STRING_ARRAY"),
        ([b"a"], "BYTE_ARRAY"),
        (None, "NOT_SET"),
    ],
)
def test_values_have_rclpys_types_and_survive_their_message(value, kind):
    parameter = Parameter("p", value=value)
    assert parameter.type_ == Parameter.Type[kind]
    assert Parameter.from_parameter_msg(parameter.to_parameter_msg()) == parameter


def test_a_declared_parameter_has_its_default_or_its_override(node):
    assert node.declare_parameter("plain", 1.5).value == 1.5
    assert node.declare_parameter("given", 1).value == 7
    assert node.declare_parameter("names", ["b"]).value == ["a"]
    assert node._parameter_overrides["given"].value == 7
    assert node.has_parameter("given")
    assert not node.has_parameter("other")


def test_an_override_of_another_type_is_refused(node):
    with pytest.raises(InvalidParameterTypeException, match="DOUBLE"):
        node.declare_parameter("given", 1.0)
    assert not node.has_parameter("given")


def test_declaring_twice_and_asking_for_the_undeclared_are_errors(node):
    node.declare_parameter("a", 1)
    with pytest.raises(ParameterAlreadyDeclaredException):
        node.declare_parameter("a", 1)
    with pytest.raises(ParameterNotDeclaredException):
        node.get_parameter("b")
    with pytest.raises(ParameterNotDeclaredException):
        node.set_parameters([Parameter("b", value=1)])


@pytest.mark.parametrize("value", [2, "2.0", True, [2.0], None])
def test_a_double_parameter_accepts_doubles_only(node, value):
    node.declare_parameter("rate", 1.0)
    result = result_of(node, "rate", value)
    assert not result.successful
    assert "rate" in result.reason
    assert node.get_parameter("rate").value == 1.0


def test_an_array_can_be_emptied(node):
    node.declare_parameter("cameras", ["front"])
    assert result_of(node, "cameras", []).successful
    assert node.get_parameter("cameras").type_ == Parameter.Type.STRING_ARRAY


@pytest.mark.parametrize(
    ("value", "fits"), [(0.0, True), (1.0, True), (0.5, True), (1.1, False), (float("nan"), False)]
)
def test_floating_point_ranges_are_enforced(node, value, fits):
    bounds = FloatingPointRange(from_value=0.0, to_value=1.0)
    node.declare_parameter("x", 0.1, ParameterDescriptor(floating_point_range=[bounds]))
    assert result_of(node, "x", value).successful is fits


@pytest.mark.parametrize(("value", "fits"), [(4, True), (6, True), (10, True), (5, False), (2, False), (12, False)])
def test_integer_ranges_and_their_steps_are_enforced(node, value, fits):
    bounds = IntegerRange(from_value=4, to_value=10, step=2)
    node.declare_parameter("n", 4, ParameterDescriptor(integer_range=[bounds]))
    assert result_of(node, "n", value).successful is fits


def test_an_override_out_of_range_is_refused(node):
    bounds = IntegerRange(from_value=0, to_value=5)
    with pytest.raises(InvalidParameterValueException, match="from 0 to 5"):
        node.declare_parameter("given", 1, ParameterDescriptor(integer_range=[bounds]))


def test_read_only_parameters_accept_their_override_only(node):
    node.declare_parameter("given", 1, ParameterDescriptor(read_only=True))
    assert node.get_parameter("given").value == 7
    assert "read-only" in result_of(node, "given", 8).reason


def test_a_callback_can_refuse_and_is_asked_before_anything_changes(node):
    node.declare_parameter("low", 1)
    node.declare_parameter("high", 5)
    asked = []

    def ordered(parameters):
        asked.append(node.get_parameter("low").value)
        values = {parameter.name: parameter.value for parameter in parameters}
        low, high = values.get("low", 1), values.get("high", 5)
        return SetParametersResult(successful=low <= high, reason="low must not exceed high")

    node.add_on_set_parameters_callback(ordered)
    assert result_of(node, "low", 9).reason == "low must not exceed high"
    both = [Parameter("low", value=9), Parameter("high", value=10)]
    assert node.set_parameters_atomically(both).successful
    assert asked == [1, 1]


def test_set_parameters_atomically_sets_all_or_none(node):
    node.declare_parameter("g.a", 1)
    node.declare_parameter("g.b", 1.0)
    result = node.set_parameters_atomically([Parameter("g.a", value=2), Parameter("g.b", value=2)])
    assert not result.successful
    assert node.get_parameter("g.a").value == 1
    assert node.get_parameter("g.b").value == 1.0


def test_overrides_come_from_the_command_line_by_node_name(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("/**:\n  ros__parameters:\n    a: 1\n/ns/two:\n  ros__parameters:\n    a: 2\n")
    init(args=["--ros-args", "--params-file", str(path), "-p", "one:b:=x", "-p", "two:c:=[1.5]"])
    try:
        one, two = Node("one"), Node("two", namespace="/ns")
        assert one.declare_parameter("a", 0).value == 1
        assert one.declare_parameter("b", "").value == "x"
        assert two.declare_parameter("a", 0).value == 2
        assert two.declare_parameter("b", "").value == ""
        assert two.declare_parameter("c", [0.0]).value == [1.5]
    finally:
        try_shutdown()


def test_other_nodes_reach_the_parameters_through_services(node):
    bounds = FloatingPointRange(from_value=0.0, to_value=1.0)
    node.declare_parameter("x", 0.5, ParameterDescriptor(description="a share", floating_point_range=[bounds]))
    node.declare_parameter("group.y", "text")
    other = Node("other", start_parameter_services=False)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(other)
    thread = threading.Thread(target=executor.spin)
    thread.start()

    def call(kind, **fields):
        service = interface(f"rcl_interfaces/srv/{kind}")
        name = "".join("_" + c.lower() if c.isupper() else c for c in kind).strip("_")
        client = other.create_client(service, f"/tester/{name}")
        assert client.wait_for_service(PATIENCE)
        return reply_of(client, service.Request(**fields))

    try:
        assert call("GetParameters", names=["x", "none"]).values[0].double_value == 0.5
        assert call("GetParameterTypes", names=["x", "none"]).types.tolist() == [3, 0]
        descriptor = call("DescribeParameters", names=["x"]).descriptors[0]
        assert (descriptor.description, descriptor.type) == ("a share", 3)
        assert call("ListParameters", prefixes=["group"]).result.names == ["group.y"]
        assert "x" in call("ListParameters").result.names
        wanted = [Parameter("x", value=0.75), Parameter("x", value=2.0), Parameter("none", value=1)]
        results = call("SetParameters", parameters=[p.to_parameter_msg() for p in wanted]).results
        assert [result.successful for result in results] == [True, False, False]
        assert node.get_parameter("x").value == 0.75
    finally:
        executor.shutdown()
        thread.join()
        other.destroy_node()
