"""The embedded runtime is self-contained: its imports, its importers, and its use of private internals."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytest.importorskip("cyclonedds")

from conftest import ROOT

from flash_vstream_ros import ros
from flash_vstream_ros.ros import embedded

PACKAGE = ROOT / "flash_vstream_ros"
EMBEDDED = PACKAGE / "ros" / "embedded"
ROS_PACKAGE = PACKAGE / "ros" / "__init__.py"


def imported(file: Path) -> set[str]:
    """The full names of the modules that a file imports, wherever in it."""
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = ast.literal_eval(node.args[0]) if isinstance(node.args[0], ast.Constant) else ""
            found.add(".".join(package) + name if name.startswith(".") else name)
    return found


@pytest.mark.parametrize("file", sorted(EMBEDDED.glob("*.py")), ids=lambda file: file.name)
def test_the_embedded_runtime_imports_nothing_from_the_rest_of_the_package(file: Path) -> None:
    ours = {name for name in imported(file) if name.startswith("flash_vstream_ros")}
    assert {name for name in ours if not name.startswith("flash_vstream_ros.ros.embedded")} == set()


def test_only_the_ros_package_imports_a_runtime() -> None:
    files = [file for file in PACKAGE.rglob("*.py") if EMBEDDED not in file.parents]
    inside = "flash_vstream_ros.ros.embedded"
    importers = [file for file in files if any(name.startswith(inside) for name in imported(file))]
    assert importers == [ROS_PACKAGE]


def test_both_runtimes_export_every_name_of_the_ros_package() -> None:
    tree = ast.parse((PACKAGE / "ros" / "native.py").read_text(encoding="utf-8"))
    bound = {alias.asname or alias.name for node in ast.walk(tree) for alias in getattr(node, "names", ())}
    bound |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    bound |= {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
    assert set(ros.__all__) <= bound
    assert [name for name in ros.__all__ if not hasattr(embedded, name)] == []
    assert bound - set(ros.__all__) == {"importlib", "Any", "rclpy_implementation"}


def test_private_internals_of_cyclonedds_are_used_in_one_file() -> None:
    private = re.compile(r"cyclonedds\.(_|internal)|\._ref\b|__del__|_dll_handle|_CQos|ddspy_|\bctypes\b")
    assert [
        file.name for file in sorted(EMBEDDED.glob("*.py")) if private.search(file.read_text(encoding="utf-8"))
    ] == ["cyclone.py"]
