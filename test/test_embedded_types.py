"""Message classes made from definitions, their CDR form and their JSON form."""

from __future__ import annotations

import array
import struct

import numpy as np
import pytest

pytest.importorskip("cyclonedds")

from flash_vstream_ros.ros.embedded.cdr import CorruptSample, deserialize, serialize
from flash_vstream_ros.ros.embedded.types import idl_type, message_class, register, type_hash
from flash_vstream_ros.ros.interfaces import AskScene, Image, MemoryEntry, MemoryStatus, String, interface, to_dict

CameraInfo = interface("sensor_msgs/msg/CameraInfo")
DiagnosticStatus = interface("diagnostic_msgs/msg/DiagnosticStatus")
EmptySrv = interface("std_srvs/srv/Empty")


def test_messages_have_the_defaults_of_their_definition():
    image = Image()
    assert (image.height, image.encoding, image.header.frame_id) == (0, "", "")
    assert image.data.dtype == np.uint8
    assert len(image.data) == 0
    assert MemoryStatus().drop_counts.dtype == np.uint64
    assert AskScene.Response().evidence == []
    assert CameraInfo().k.tolist() == [0.0] * 9


def test_two_messages_share_no_default():
    first, second = AskScene.Request(), AskScene.Request()
    first.cameras.append("front")
    first.since.sec = 5
    assert second.cameras == []
    assert second.since.sec == 0


def test_constants_are_class_attributes():
    assert AskScene.Response.BUSY == 3
    assert MemoryEntry.KEY_FRAME == 1
    assert MemoryStatus.READY == 1


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda raw: array.array("B", raw)])
def test_image_data_is_assigned_without_a_copy(wrap):
    pixels = wrap(bytes(range(12)))
    image = Image(data=pixels)
    assert image.data.tolist() == list(range(12))
    assert np.shares_memory(image.data, np.frombuffer(pixels, np.uint8))


def test_an_image_array_of_any_shape_is_flattened_without_a_copy():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    image = Image(data=pixels)
    assert image.data.shape == (24,)
    assert np.shares_memory(image.data, pixels)


@pytest.mark.parametrize(
    ("field", "value"),
    [("height", -1), ("height", 1.0), ("encoding", b"rgb8"), ("header", "x"), ("data", [256]), ("data", "text")],
)
def test_a_value_of_the_wrong_type_is_refused_by_field_name(field, value):
    with pytest.raises(AssertionError, match=field):
        setattr(Image(), field, value)


def test_a_field_that_does_not_exist_is_refused():
    with pytest.raises(AttributeError, match="hight"):
        Image().hight = 3
    with pytest.raises(AssertionError, match="hight"):
        Image(hight=3)


def test_an_integer_is_not_accepted_as_a_float():
    with pytest.raises(AssertionError, match="weight"):
        MemoryEntry(weight=1)


def test_bytes_and_integers_both_set_a_byte():
    assert DiagnosticStatus(level=b"\x02").level == DiagnosticStatus.ERROR
    assert DiagnosticStatus(level=DiagnosticStatus.WARN).level == 1


@pytest.mark.parametrize(
    "message",
    [
        AskScene.Request(question="wo ist die Tür?", cameras=["front", "rear"], stream=True),
        AskScene.Response(error_code=AskScene.Response.TIMEOUT, evidence=[MemoryEntry(camera="c"), MemoryEntry()]),
        MemoryStatus(drop_reasons=["late"], drop_counts=[2**63], cameras=["front"], frames_pending=1),
        EmptySrv.Request(),
        DiagnosticStatus(level=DiagnosticStatus.STALE, name="n"),
        CameraInfo(k=np.arange(9.0), d=[1.0, 2.0]),
    ],
)
def test_messages_survive_serialisation(message):
    raw = serialize(message)
    assert len(raw) % 4 == 0
    assert deserialize(raw, type(message)) == (message, False)


def test_a_message_truncated_anywhere_is_reported_as_corrupt():
    raw = bytes(serialize(AskScene.Response(answer="a door", evidence=[MemoryEntry(camera="front")])))
    for length in range(len(raw) - 4):
        with pytest.raises(CorruptSample):
            deserialize(raw[:length], AskScene.Response)


def test_a_length_beyond_the_sample_is_corrupt():
    raw = serialize(String(data="hello"))
    struct.pack_into("<I", raw, 4, 2**31)
    with pytest.raises(CorruptSample):
        deserialize(raw, String)


def test_only_bytes_that_are_not_utf_8_become_question_marks():
    image = Image(encoding="€€", data=b"\xe2\x82 and \xe2\x82\xac\xff" * 3)
    image.header.frame_id = "front"
    raw = bytes(serialize(image)).replace("€€".encode(), b"\xe2\x82\xac\xff\xfe\xe2")
    read, repaired = deserialize(raw, Image)
    assert repaired
    assert read.encoding == "€???"
    assert read.header.frame_id == "front"
    assert bytes(read.data) == bytes(image.data)


def test_a_deserialised_image_is_a_view_of_the_sample():
    raw = serialize(Image(data=bytes(1000)))
    read, _ = deserialize(memoryview(raw), Image)
    assert np.shares_memory(read.data, np.frombuffer(raw, np.uint8))


def test_type_hashes_equal_those_of_ros_2_jazzy():
    assert type_hash("std_msgs/msg/String") == (
        "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"
    )
    assert type_hash("sensor_msgs/msg/Image") == (
        "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"
    )
    assert type_hash("diagnostic_msgs/msg/DiagnosticArray") == (
        "RIHS01_5a8a36efb05fb25070fa0fb3810290c0e6cd4862b54a8fb975a1ee8dc55a333e"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("msg/MemoryEntry", "9e48fad0b65df673e20aad225b7b855e0a94c6b1c0199a0d422240fccd82350b"),
        ("msg/Event", "e65b5656d87c661845e86b132f50556101c1051432c350f8643f142212e6c242"),
        ("srv/AddWatch_Request", "39b2f1fb00abc417031c51220af83205bbebe45e523aacc128a5dd1180af6f8a"),
        ("srv/ListWatches_Response", "0449ddceb8c08786ea296b633fcfac2f75b2e10c917b203ebba09a39c9f2457e"),
        ("srv/AskScene_Request", "43f3aff5db4fa6c6c6016cbc7dbc01f65c1b450c24c95dde84eb35539811c003"),
        ("srv/AskScene_Response", "8d9f3be91579d45b14ae8e0e12496aadaff9a9462a90378898dc901cbc6c0313"),
        ("srv/Forget_Request", "5a05624208b7a6560accedb5fa7e6bfcd25407fe2f6a2600a266090bc98e53a6"),
        ("srv/Forget_Response", "0189cf6722751e5aae927e636fd46a18a6d78a3fabc751d499a0ea33ea41743f"),
        ("srv/ListMemory_Request", "9ce176c8866a18c3285886768e7667ecbbc87e8263352f9c4efa5e4ee317ef1c"),
        ("srv/ListMemory_Response", "34fd282f24b34248e1a35583af1df2843388ce95ff1b26c3db70094877c13bee"),
        ("srv/Report_Request", "8f8c9c5ecd9dca014b3a78b9cc1782b0657763eb186798aaa3ee43bff3eaa997"),
        ("srv/Report_Response", "1331fb88930eaa6192b1c825fdb4f72bf4780e83e81ff0c49202a78e85404c93"),
        ("srv/Search_Request", "650f1c1a970fdbb27a51dc8939ad86a83c65497374a7bda822e6cdbcef0d6fb4"),
        ("srv/Search_Response", "3e80130cbfe45cc55275022a2a38c18adb5a001463c591a1c8e18b71424afc14"),
    ],
)
def test_type_hashes_of_this_package_equal_those_that_ros_2_jazzy_generates(name, expected):
    service = name.partition("_")[0]
    if service.startswith("srv/"):
        interface(f"flash_vstream_ros/{service}")
    assert type_hash(f"flash_vstream_ros/{name}") == f"RIHS01_{expected}"


def test_type_hashes_of_trigger_equal_those_of_ros_2_jazzy():
    assert interface("std_srvs/srv/Trigger")
    assert type_hash("std_srvs/srv/Trigger_Request").endswith(
        "d010825374ce8918e72bfd826c82603e60f45419e932ea976f807b74a863a199"
    )
    assert type_hash("std_srvs/srv/Trigger_Response").endswith(
        "2d946c21e2fc3f1e9ca6986a8191d85fcc70097a8bb7771a053564bc47009cdf"
    )


def test_dds_types_have_the_names_that_ros_2_uses():
    assert idl_type(AskScene.Request.TYPE_NAME, True).__idl_typename__ == (
        "flash_vstream_ros.srv.dds_.AskScene_Request_"
    )


def test_the_error_for_an_unknown_or_malformed_definition_names_it():
    with pytest.raises(LookupError, match="nothing_msgs/msg/Nothing"):
        message_class("nothing_msgs/msg/Nothing")
    with pytest.raises(LookupError, match="Missing"):
        interface("flash_vstream_ros/msg/Missing")
    with pytest.raises(ValueError, match="broken_msgs/msg/Broken"):
        register("uint8[ broken", "broken_msgs/msg/Broken")


def test_the_json_form_has_field_names_and_optionally_no_binary_data():
    entry = MemoryEntry(camera="front", weight=0.5)
    entry.thumbnail.data = b"\xff\xd8jpeg"
    response = AskScene.Response(answer="ja", evidence=[entry], confidence=0.25, calibrated=True)
    values = to_dict(response)
    assert (values["confidence"], values["calibrated"]) == (0.25, True)
    assert values["evidence"][0]["thumbnail"]["data"] == "/9hqcGVn"
    assert values["covered_since"] == {"sec": 0, "nanosec": 0}
    assert "data" not in to_dict(response, binary=False)["evidence"][0]["thumbnail"]
