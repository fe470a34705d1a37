"""Imports point one way: each folder may import only what this table allows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "flash_vstream_ros"
ROOT = Path(__file__).parents[1] / PACKAGE

ENGINE = (
    "engine",
    "engine/ingest",
    "engine/answering",
    "engine/archive",
    "engine/control",
    "engine/restart",
    "engine/reports",
    "engine/watches",
)
# A folder's rule holds for its subfolders too, unless they have one of their own.
MAY_IMPORT = {
    "memory": {"memory"},
    "models": {"models", "memory"},
    "engine/archive": {"engine", "engine/archive", "memory"},
    "engine/ingest": {"engine", "engine/archive", "engine/ingest", "models", "memory"},
    "engine/answering": {"engine", "engine/answering", "engine/archive", "models", "memory"},
    "engine/reports": {"engine/answering", "engine/reports", "memory"},
    "engine/watches": {"engine", "engine/answering", "engine/watches", "models", "memory"},
    "engine/restart": {*ENGINE, "models", "memory"} - {"engine/answering", "engine/control", "engine/watches"},
    "engine/control": {*ENGINE, "memory"},
    "engine": {*ENGINE, "models", "memory"},
    "ros/embedded": {"ros/embedded"},
    "ros": {"ros", "ros/embedded", "msg", "srv", "action"},
    "node": {
        "node",
        *ENGINE,
        "models",
        "memory",
        "ros",
        "process",
    },
    "instruments": {"instruments", "node", "engine", "models", "memory", "ros"},
    "bench": {
        "bench",
        "finetuning",
        "evaluation",
        "instruments",
        "training",
        "demo",
        "node",
        *ENGINE,
        "models",
        "memory",
        "ros",
        "client",
        "process",
        "progress",
    },
    "evaluation": {
        "evaluation",
        "evaluation/benchmarks",
        "instruments",
        "node",
        *ENGINE,
        "models",
        "memory",
        "process",
        "progress",
    },
    "finetuning": {
        "finetuning",
        "evaluation",
        "node",
        *ENGINE,
        "models",
        "memory",
        "process",
        "progress",
    },
    "evaluation/benchmarks": {"evaluation", "evaluation/benchmarks"},
    "lmms_eval_plugin": {"lmms_eval_plugin", "cli", "evaluation", "evaluation/benchmarks", "node", "models", "process"},
    "client": {"client", "ros"},
    "demo": {"demo", "models", "ros", "client"},
    "cli/live_view": {"cli", "cli/live_view", "client", "engine", "ros"},
    "training": {"training", "demo", "models", "memory", "progress"},
}
NEVER = {  # third-party packages that a folder must not import
    "memory": {"transformers", "rclpy", "cyclonedds"},
    "models": {"rclpy", "cyclonedds"},
    "engine": {"transformers", "rclpy", "cyclonedds"},
    "ros": {"torch", "transformers"},
}


def imports(file: Path) -> Iterator[str]:
    """Dotted names that a file imports, relative ones resolved."""
    package = [PACKAGE, *file.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def folder_of(name: str) -> str | None:
    """The folder with a rule (or the top-level module) that a dotted name of this package lies in."""
    parts = name.split(".")
    if parts[0] != PACKAGE or len(parts) == 1:
        return None
    for depth in range(len(parts), 1, -1):
        folder = "/".join(parts[1:depth])
        if folder in MAY_IMPORT:
            return folder
    return parts[1]


def rule_for(file: Path) -> str | None:
    parts = file.relative_to(ROOT).parts[:-1]
    return next((f for n in range(len(parts), 0, -1) if (f := "/".join(parts[:n])) in MAY_IMPORT), None)


FILES = [file for file in sorted(ROOT.rglob("*.py")) if rule_for(file)]


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_a_file_imports_only_what_its_folder_may(file: Path) -> None:
    rule = rule_for(file)
    assert rule
    found = {folder for name in imports(file) if (folder := folder_of(name))}
    assert found <= MAY_IMPORT[rule], f"{file.relative_to(ROOT)} imports {sorted(found - MAY_IMPORT[rule])}"
    foreign = {name.split(".")[0] for name in imports(file)} & NEVER.get(rule.split("/")[0], set())
    allowed = {"cyclonedds"} if rule == "ros/embedded" else set()
    assert foreign <= allowed


def test_every_folder_has_a_docstring_on_its_contents() -> None:
    for folder in {file.parent for file in ROOT.rglob("*.py")}:
        init = folder / "__init__.py"
        assert init.is_file(), folder
        assert ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))), init


def test_no_file_is_longer_than_400_lines() -> None:
    files = [*ROOT.rglob("*.py"), *Path(__file__).parent.glob("*.py")]
    long = {file.name: lines for file in files if (lines := len(file.read_text().splitlines())) > 400}
    assert not long, long
