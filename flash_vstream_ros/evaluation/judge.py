"""A judge of open answers behind any OpenAI-compatible endpoint, by the published rules of VStream-QA's scorer.

The judge replies with "yes" or "no" and a whole score from 0 to 5. Replies are cached in a file. Scores of different
judges are not comparable, so every result names its judge.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flash_vstream_ros.progress import tracked

from .item import Item
from .records import Record
from .scoring import Verdict

URL, KEY = "OPENAI_BASE_URL", "OPENAI_API_KEY"  # environment variables, as OpenAI's own client reads them
REQUEST_LIMIT_S = 120.0
RETRY_S = (1.0, 2.0, 4.0, 8.0, 16.0)  # pauses before further attempts
RETRIED_STATUS = {408, 409, 429, 500, 502, 503, 504}
PARALLEL_REQUESTS = 8
RULES = (
    "You grade answers to questions about videos. You get a question, its correct answer and a predicted answer. "
    "Decide whether the prediction means the same as the correct answer; synonyms and paraphrases count as the same. "
    'Reply with nothing but JSON: {"pred": "yes" or "no", "score": a whole number from 0 (wrong) to 5 (the same)}.'
)
_OBJECT = re.compile(r"\{[^{}]*\}")


class JudgeError(RuntimeError):
    """The judge cannot be asked; the message says what to do."""


@dataclass(frozen=True)
class JudgeConfig:
    """The judge's model, and the endpoint that runs it."""

    model: str
    url: str
    key: str

    @classmethod
    def from_environment(cls, model: str, environment: Mapping[str, str] = os.environ) -> JudgeConfig:
        """Read the endpoint from the environment. Raises JudgeError."""
        url = environment.get(URL, "").rstrip("/")
        if not url.startswith(("http://", "https://")):
            raise JudgeError(f"{URL} is {url!r}: set it to the judge's endpoint, such as https://api.openai.com/v1")
        return cls(model, url, environment.get(KEY, ""))


class Judge:
    """Asks the judge about answers. `cache` is a file with one JSON object per reply."""

    def __init__(self, config: JudgeConfig, cache: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        self._config, self._cache, self._sleep = config, cache, sleep
        self._replies = _cached(cache)

    def verdicts(self, answers: Sequence[tuple[Item, Record]]) -> list[Verdict]:
        """The verdict on each answer. Raises JudgeError if the judge cannot be asked; replies so far stay cached."""
        texts = [_question(item, record) for item, record in answers]
        new = [text for text in dict.fromkeys(texts) if self._key(text) not in self._replies]
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as threads:
            for text, reply in tracked(zip(new, threads.map(self._ask, new), strict=True), "judge answers", len(new)):
                self._remember(text, reply)
        return [verdict_in(self._replies[self._key(text)]) for text in texts]

    def _key(self, text: str) -> str:
        return hashlib.sha256(json.dumps([self._config.model, RULES, text]).encode()).hexdigest()

    def _remember(self, text: str, reply: str) -> None:
        self._replies[self._key(text)] = reply
        with self._cache.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": self._key(text), "reply": reply}, ensure_ascii=False) + "\n")

    def _ask(self, text: str) -> str:
        messages = [{"role": "system", "content": RULES}, {"role": "user", "content": text}]
        body = json.dumps({"model": self._config.model, "messages": messages, "temperature": 0}).encode()
        headers = {"Content-Type": "application/json"}
        if self._config.key:
            headers["Authorization"] = f"Bearer {self._config.key}"
        request = urllib.request.Request(f"{self._config.url}/chat/completions", body, headers)
        for pause_s in (*RETRY_S, None):
            reason, is_temporary = "", True
            try:
                with urllib.request.urlopen(request, timeout=REQUEST_LIMIT_S) as reply:
                    return _content(json.load(reply))
            except urllib.error.HTTPError as error:
                reason, is_temporary = f"HTTP {error.code} {error.reason}", error.code in RETRIED_STATUS
                error.close()
            except (OSError, ValueError) as error:
                reason = str(error)
            if pause_s is None or not is_temporary:
                raise JudgeError(f"the judge {self._config.model} at {self._config.url} failed: {reason}")
            self._sleep(pause_s)
        raise AssertionError("unreachable")


def verdict_in(reply: str) -> Verdict:
    """Parse a judge's reply, JSON or a Python dictionary. `is_right` is None if it has no verdict; none is guessed."""
    for found in _OBJECT.findall(reply):
        fields = _fields(found)
        pred, value = str(fields.get("pred", "")).strip().lower(), fields.get("score")
        if pred in ("yes", "no") and isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 5:
            return Verdict(pred == "yes", float(value))
    return Verdict(None)


def _fields(text: str) -> dict[str, Any]:
    """The object in a text, as JSON or in Python's syntax; {} if it is neither."""
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError):
            fields = read(text)
            return fields if isinstance(fields, dict) else {}
    return {}


def _question(item: Item, record: Record) -> str:
    return f"Question: {item.question}\nCorrect answer: {item.answer}\nPredicted answer: {record.response}"


def _content(reply: object) -> str:
    try:
        return str(reply["choices"][0]["message"]["content"])  # type: ignore[index]
    except (KeyError, IndexError, TypeError):
        raise ValueError("the reply is no chat completion") from None


def _cached(path: Path) -> dict[str, str]:
    """The replies in a cache file. A damaged line is skipped: its answer is judged again."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    entries = [_fields(line) for line in lines]
    return {str(entry["key"]): str(entry["reply"]) for entry in entries if {"key", "reply"} <= set(entry)}
