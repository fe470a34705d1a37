"""The script that builds the node on the wheels of ROS 2: the tests that it selects, and its errors."""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def native_ros(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, on a machine that it supports."""
    spec = importlib.util.spec_from_file_location("native_ros", ROOT / "scripts" / "native_ros.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    return module


def error_of(native_ros: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The output of a failing `native_ros.py build`."""
    monkeypatch.setattr(sys, "argv", ["native_ros.py", "build", "--folder", "/dev/null/nowhere"])
    assert native_ros.main() == 1
    return capsys.readouterr().err


def test_without_a_compiler_it_fails_and_says_what_to_install(
    native_ros: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert error_of(native_ros, monkeypatch, capsys) == "native_ros: there is no g++: apt install g++ python3-dev\n"


def test_without_python_headers_it_fails_and_says_what_to_install(
    native_ros: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    compiler = tmp_path / "g++"
    compiler.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(native_ros.sysconfig, "get_path", lambda _: str(tmp_path))
    assert error_of(native_ros, monkeypatch, capsys).endswith("Python.h: apt install g++ python3-dev\n")


def test_other_machines_and_a_sourced_ros_are_refused(
    native_ros: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert "a ROS 2 is sourced in this shell" in error_of(native_ros, monkeypatch, capsys)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "x86-64 Linux and CPython 3.10 to 3.13, and this is Linux on aarch64" in error_of(
        native_ros, monkeypatch, capsys
    )


def test_all_node_test_files_and_none_of_the_embedded_runtime_are_selected(native_ros: ModuleType) -> None:
    names = {file.name for file in native_ros.tests_that_use_ros()}
    kinds = ("node", "node_cameras", "node_lifecycle", "node_parameters", "node_diagnostics", "node_faults")
    kinds += (
        "cameras",
        "memory_services",
        "live_parameters",
        "demo",
        "doctor",
        "sources",
        "documented_interface",
        "rclpy_additions",
    )
    assert {f"test_{kind}.py" for kind in kinds} <= names
    assert not {"test_embedded_topics.py", "test_kmeans.py", "test_lint.py"} & names
    with_robot = (file for file in (ROOT / "test").glob("test_*.py") if "\nfrom robot import" in file.read_text())
    assert {file.name for file in with_robot if not file.name.startswith(native_ros.WITHOUT_ROS)} <= names
