"""Parameter files without a section for this node are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from flash_vstream_ros.node.parameter_files import matches, parameter_files, unused_files


@pytest.mark.parametrize(
    ("section", "node", "used"),
    [
        ("/flash_vstream", "/flash_vstream", True),
        ("flash_vstream", "/flash_vstream", True),
        ("/vstream_node", "/flash_vstream", False),
        ("/flash_vstream", "/robot1/flash_vstream", False),
        ("/robot1/flash_vstream", "/robot1/flash_vstream", True),
        ("/**", "/robot1/flash_vstream", True),
        ("/*/flash_vstream", "/robot1/flash_vstream", True),
        ("/*", "/robot1/flash_vstream", False),
        ("/**/flash_vstream", "/a/b/flash_vstream", True),
    ],
)
def test_sections_match_as_in_ros(section: str, node: str, used: bool) -> None:
    assert matches(section, node) is used


def test_only_ros_arguments_select_parameter_files() -> None:
    args = ["node", "--params-file", "no", "--ros-args", "--params-file", "a.yaml", "-p", "x:=1", "--params-file"]
    assert parameter_files([*args, "b.yaml", "--", "--params-file", "no"]) == ["a.yaml", "b.yaml"]


def warnings(folder: Path, text: str, node: str = "/flash_vstream") -> list[str]:
    file = folder / "params.yaml"
    file.write_text(text, encoding="utf-8")
    return unused_files(["node", "--ros-args", "--params-file", str(file)], node)


def test_a_file_for_another_node_is_reported_with_its_sections(tmp_path: Path) -> None:
    text = "vstream_node:\n  ros__parameters:\n    sample_fps: 2.0\n"
    (sentence,) = warnings(tmp_path, text)
    assert f"{tmp_path / 'params.yaml'} has no section for this node, /flash_vstream" in sentence
    assert "its sections are /vstream_node: rename one to /flash_vstream or /**" in sentence


def test_a_file_for_another_namespace_is_reported(tmp_path: Path) -> None:
    text = "flash_vstream:\n  ros__parameters:\n    sample_fps: 2.0\n"
    assert warnings(tmp_path, text) == []
    (sentence,) = warnings(tmp_path, text, "/robot1/flash_vstream")
    assert "this node, /robot1/flash_vstream" in sentence


@pytest.mark.parametrize(
    "text",
    [
        "other: {ros__parameters: {a: 1}}\nflash_vstream: {ros__parameters: {sample_fps: 2.0}}\n",
        "/**: {ros__parameters: {sample_fps: 2.0}}\n",
        "/ns: {a: {ros__parameters: {a: 1}}}\n/**: {ros__parameters: {a: 1}}\n",
        "",
        "[1, 2]",
        "a: [unclosed",
    ],
)
def test_matching_files_are_not_reported(tmp_path: Path, text: str) -> None:
    assert warnings(tmp_path, text) == []


def test_a_file_that_is_missing_is_left_to_ros() -> None:
    assert unused_files(["--ros-args", "--params-file", "/nowhere.yaml"], "/flash_vstream") == []
