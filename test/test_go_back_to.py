"""The example that drives back: it drives only to what was seen, and only in the present map."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flash_vstream_ros.client import MapName
from flash_vstream_ros.ros.interfaces import AskScene, MemoryEntry, Search

EXAMPLE = Path(__file__).parents[1] / "examples" / "go_back_to.py"
GROUND, UPSTAIRS = MapName("map", "ground"), MapName("map", "upstairs")


class FakeClient:
    """Stands in for a client of a node that answers `answer` and has seen the thing at x = 2 m of the map GROUND."""

    def __init__(self, answer: str, present: MapName = GROUND) -> None:
        self.answer, self.present, self.searched = answer, present, 0

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def request(self, question: str) -> str:
        return question

    def ask_when_ready(self, request: str, wait_s: float) -> AskScene.Response:
        assert request == "Have you seen a red ball?"
        return AskScene.Response(answer=self.answer, confidence=0.9)

    def search_when_ready(self, text: str, wait_s: float, *, max_moments: int) -> Search.Response:
        self.searched += 1
        moment = MemoryEntry(pose_known=True, map_id=GROUND.map_id, relevance=0.5)
        moment.pose.header.frame_id, moment.pose.pose.pose.position.x = GROUND.frame_id, 2.0
        return Search.Response(moments=[moment])

    def present_map(self, wait_s: float) -> MapName:
        return self.present


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("go_back_to", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(example: Any, monkeypatch: pytest.MonkeyPatch, client: FakeClient, *options: str) -> tuple[int, list[Any]]:
    """The exit status of the example, and the positions to which it drove."""
    driven: list[Any] = []

    def drive(moment: Any, action: str) -> bool:
        driven.append(moment.pose.pose.pose.position.x)
        return True

    monkeypatch.setattr(example, "AskClient", lambda service: client)
    monkeypatch.setattr(example, "drive", drive)
    monkeypatch.setattr("sys.argv", ["go_back_to.py", "red ball", *options])
    return example.main(), driven


@pytest.mark.parametrize("answer", ["Yes", "yes, on the table.", "[demo model] yes", " YES!"])
def test_it_drives_to_what_was_seen(example: ModuleType, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    assert run(example, monkeypatch, FakeClient(answer)) == (0, [2.0])
    assert run(example, monkeypatch, FakeClient(answer), "--dry-run") == (0, [])


@pytest.mark.parametrize("answer", ["No", "No, I have not seen it yet.", "[demo model] no", "Yesterday?", "", "I see."])
def test_it_does_not_drive_if_the_answer_is_not_yes(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeClient(answer)
    assert run(example, monkeypatch, client) == (1, [])
    assert client.searched == 0
    assert "does not drive" in capsys.readouterr().err


def test_it_does_not_drive_to_a_pose_of_another_map(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(example, monkeypatch, FakeClient("Yes", UPSTAIRS)) == (1, [])
    assert "the robot is now in the map 'upstairs'" in capsys.readouterr().err
