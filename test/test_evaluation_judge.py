"""The judge is asked over HTTP, retried, cached and never guessed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flash_vstream_ros.evaluation.item import AnswerKind, Item
from flash_vstream_ros.evaluation.judge import KEY, RETRY_S, URL, Judge, JudgeConfig, JudgeError, verdict_in
from flash_vstream_ros.evaluation.records import Record
from flash_vstream_ros.evaluation.scoring import Verdict

RIGHT = '{"pred": "yes", "score": 5}'


class JudgeServer(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint with planned statuses, then replies that say yes to the answer "ball"."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []  # of the next requests; afterwards 200
        self.requests: list[dict[str, Any]] = []
        self.reply = ""  # "": by the answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({**body, "path": self.path, "key": self.headers.get("Authorization")})
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        is_right = body["messages"][1]["content"].endswith("Predicted answer: ball")
        text = self.server.reply or (RIGHT if is_right else "{'pred': 'no', 'score': 1}")
        content = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log."""


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


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
