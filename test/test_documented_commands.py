"""Every command in the documentation is accepted by the command line as it is written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from flash_vstream_ros.cli.command_line import build_parser, split_ros_arguments
from flash_vstream_ros.cli.times import join_negative_values

ROOT = Path(__file__).parents[1]
GENERATED = ROOT / "docs" / "reference"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "flash_vstream_ros/models/household/README.md")),
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.parent != GENERATED),
]
COMMAND = re.compile(r"(?:flash-vstream-ros|python -m flash_vstream_ros\.cli) (?P<words>[a-z][^`\n|#&]*)")


def commands() -> list[tuple[str, str, bool]]:
    """Page, words and whether it stands in a block, of every command that a page shows."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
        inline = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        spans = "\n".join(re.findall(r"`([^`\n]+)`", inline))
        for source, is_block in ((blocks, True), (spans, False)):
            found += [(page.name, match["words"].strip(), is_block) for match in COMMAND.finditer(source)]
    return list(dict.fromkeys(found))


def parsed(words: Sequence[str]) -> object:
    """Exit status of parsing `words`; 0 if they are accepted."""
    try:
        build_parser().parse_args(join_negative_values(words))
    except SystemExit as ending:
        return ending.code
    return 0


@pytest.mark.parametrize(("page", "words", "is_block"), commands())
def test_a_documented_command_is_accepted(
    page: str,
    words: str,
    is_block: bool,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # arguments that name output files try to create them
    own, _ = split_ros_arguments(shlex.split(words))
    status = parsed(own)
    error = capsys.readouterr().err
    is_fragment = not is_block and "required" in error
    assert status == 0 or is_fragment, f"{page}: {words}: {error}"


def test_the_documentation_shows_commands() -> None:
    assert sum(is_block for _, _, is_block in commands()) > 20
