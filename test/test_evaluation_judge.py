"""The judge is asked over HTTP, retried, cached and never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from judge_server import RIGHT, JudgeServer, server

from flash_vstream_ros.evaluation.item import AnswerKind, Item
from flash_vstream_ros.evaluation.judge import KEY, RETRY_S, URL, Judge, JudgeConfig, JudgeError, verdict_in
from flash_vstream_ros.evaluation.records import Record
from flash_vstream_ros.evaluation.scoring import Verdict

__all__ = ["server"]  # a fixture


def asked(*responses: str) -> list[tuple[Item, Record]]:
    item = Item("1", Path("v"), 1.0, "p", "a ball", AnswerKind.OPEN, "all", question="What is it?")
    return [(item, Record("ours", "1", response)) for response in responses]


def judge_of(server: JudgeServer, folder: Path, pauses: list[float] | None = None) -> Judge:
    config = JudgeConfig.from_environment("judge-1", {URL: f"{server.url}/", KEY: "secret"})
    return Judge(config, folder / "judgements.jsonl", [].append if pauses is None else pauses.append)


def test_each_different_answer_is_judged_once(server: JudgeServer, tmp_path: Path) -> None:
    verdicts = judge_of(server, tmp_path).verdicts(asked("ball", "cat", "ball"))
    assert verdicts == [Verdict(True, 5.0), Verdict(False, 1.0), Verdict(True, 5.0)]
    assert len(server.requests) == 2
    request = server.requests[0]
    assert (request["path"], request["model"], request["temperature"]) == ("/v1/chat/completions", "judge-1", 0)
    assert request["key"] == "Bearer secret"
    assert "Correct answer: a ball" in request["messages"][1]["content"]
    assert "secret" not in (tmp_path / "judgements.jsonl").read_text()
    assert judge_of(server, tmp_path).verdicts(asked("cat", "ball")) == [Verdict(False, 1.0), Verdict(True, 5.0)]
    assert len(server.requests) == 2


def test_a_damaged_line_of_the_cache_is_judged_again(server: JudgeServer, tmp_path: Path) -> None:
    (tmp_path / "judgements.jsonl").write_text('{"key": "1"}\n{"ke\n')
    assert judge_of(server, tmp_path).verdicts(asked("ball")) == [Verdict(True, 5.0)]


def test_a_busy_judge_is_asked_again(server: JudgeServer, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    pauses: list[float] = []
    assert judge_of(server, tmp_path, pauses).verdicts(asked("ball")) == [Verdict(True, 5.0)]
    assert pauses == list(RETRY_S[:2])


def test_a_judge_that_stays_away_or_refuses_ends_the_run(server: JudgeServer, tmp_path: Path) -> None:
    server.statuses = [500] * (len(RETRY_S) + 1)
    with pytest.raises(JudgeError, match=r"judge-1 at http://127.*: HTTP 500"):
        judge_of(server, tmp_path).verdicts(asked("ball"))
    assert len(server.requests) == len(RETRY_S) + 1
    server.statuses = [401]
    pauses: list[float] = []
    with pytest.raises(JudgeError, match="HTTP 401"):
        judge_of(server, tmp_path, pauses).verdicts(asked("ball"))
    assert not pauses


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "localhost:8000"])
def test_an_endpoint_must_be_given(url: str) -> None:
    with pytest.raises(JudgeError, match="OPENAI_BASE_URL"):
        JudgeConfig.from_environment("judge-1", {URL: url})


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (RIGHT, Verdict(True, 5.0)),
        ("{'pred': 'no', 'score': 2}", Verdict(False, 2.0)),
        ('Well: ```json\n{"pred": "Yes", "score": 4.8}\n```', Verdict(True, 4.8)),
        ('{"pred": "yes"}', Verdict(None)),
        ('{"pred": "yes", "score": 6}', Verdict(None)),
        ('{"pred": "maybe", "score": 3}', Verdict(None)),
        ("yes, 5", Verdict(None)),
    ],
)
def test_verdicts_are_parsed_and_never_guessed(reply: str, verdict: Verdict) -> None:
    assert verdict_in(reply) == verdict
