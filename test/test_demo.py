"""The demo as a newcomer runs it: three processes over the wire."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flash_vstream_ros.cli.demo import says


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("Yes, in the kitchen.", "yes, in the kitchen", True),
        ("I saw it 2 times", "2", True),
        ("I saw it 12 times", "2", False),
        ("nothing", "no", False),
    ],
)
def test_an_answer_is_right_when_it_says_the_truth_in_whole_words(answer: str, truth: str, right: bool) -> None:
    assert says(answer, truth) is right


def test_the_demo_asks_over_the_wire_and_writes_what_it_prints(tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    command = [sys.executable, "-m", "flash_vstream_ros.cli", "demo", "--rate", "20", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert len(report["questions"]) >= 5
    for asked in report["questions"]:
        assert asked["answer"].startswith("[untrained]")
        assert asked["time_to_first_token"] > 0
        assert {"question", "truth", "right"} <= set(asked)
        assert asked["question"].split()[0] in done.stdout
    frames, memory = report["frames"], report["memory"]
    assert frames["received"] == frames["encoded"] + frames["gated"] + frames["dropped"]
    assert frames["received"] >= 400
    assert 0 < memory["entries"] <= memory["capacity"]
    assert memory["tokens"] > 0 < memory["bytes"]
