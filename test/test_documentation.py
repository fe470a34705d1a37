"""The documentation: generated pages are up to date, every link leads somewhere, and the README stays short."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
README_BYTES = 9000


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "scripts" / "generate_reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", list(generator().PAGES))
def test_generated_files_are_what_the_generator_writes(name: str) -> None:
    written = (ROOT / name).read_text(encoding="utf-8")
    assert written == generator().PAGES[name](), "run python scripts/generate_reference.py"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=120, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "site" / "quick_start" / "index.html").is_file()
    tutorial = (tmp_path / "site" / "tutorials" / "ask_from_your_node" / "index.html").read_text(encoding="utf-8")
    assert "call_async" in tutorial, "the Python example is not in its page"
    assert "async_send_request" in tutorial, "the C++ example is not in its page"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(file.relative_to(ROOT / "docs")) for file in (ROOT / "docs").rglob("*.md")}
    assert pages == set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "examples/README.md"])
def test_links_of_pages_outside_the_site_lead_to_files(name: str) -> None:
    file = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)", file.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (file.parent / target).exists(), f"{name} links to {target}"


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES


def test_test_files_that_claims_name_exist() -> None:
    claims = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    for name in re.findall(r"test/test_\w+\.py", claims):
        assert (ROOT / name).is_file(), name
