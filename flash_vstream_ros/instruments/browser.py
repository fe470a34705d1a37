"""Headless Chromium, driven over its debugging pipe by the Chrome DevTools Protocol."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
REPLY_S = 60.0  # longest wait for a reply
END_S = 20.0
POLL_S = 0.05
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage")
PIPE = "--remote-debugging-pipe"
MOVE = "import os, sys; [os.dup2(int(sys.argv[i + 1]), 3 + i) for i in (0, 1)]; os.execv(sys.argv[3], sys.argv[3:])"


class BrowserError(RuntimeError):
    """Chromium refused a command, ended, or a script on the page failed."""


def browser_program() -> str | None:
    """The path of an installed Chromium; None if there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Page:
    """One open page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.problems: list[str] = []  # errors of scripts and of the content security policy
        browser.on_event[session] = self._on_event
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """The result of a command of the protocol. Raises BrowserError."""
        return self._browser.call(method, self._session, **params)

    def show(self, width: int, height: int, *, scale: float = 1.0, dark: bool = False, phone: bool = False) -> None:
        """Set the size of the window [CSS px], its scale, and what the user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.call("Emulation.setScrollbarsHidden", hidden=True)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited. Raises BrowserError."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise BrowserError(f"{expression}: {_reason(result['exceptionDetails'])}")
        return result["result"].get("value")

    def wait_for(self, condition: str, timeout_s: float = REPLY_S) -> None:
        """Wait until a JavaScript expression is true. Raises BrowserError."""
        until = time.monotonic() + timeout_s
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() > until:
                raise BrowserError(f"{condition} is not true after {timeout_s:.0f} s; problems: {self.problems}")
            time.sleep(POLL_S)

    def screenshot(self, *, whole: bool = False) -> bytes:
        """A PNG of the window, or of the whole page."""
        clip: dict[str, Any] = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {**size, "scale": 1}, "captureBeyondViewport": True}
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", **clip)["data"])

    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(_reason(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])


class Browser:
    """A running Chromium. Raises BrowserError where it ends or refuses a command."""

    def __init__(self, process: subprocess.Popen[bytes], to_browser: int, from_browser: int) -> None:
        self.on_event: dict[str, Any] = {}  # called with method and parameters, by session
        self._process = process
        self._to_browser = to_browser
        self._from_browser = from_browser
        self._number = 0
        self._replies: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="chromium-pipe", daemon=True)
        self._reader.start()

    def new_page(self) -> Page:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        return Page(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])

    def call(self, method: str, session: str = "", **params: Any) -> Any:
        """The result of a command. For one thread."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        if session:
            command["sessionId"] = session
        try:
            os.write(self._to_browser, json.dumps(command).encode() + b"\0")
            while (reply := self._replies.get(timeout=REPLY_S)).get("id") not in (self._number, None):
                pass
        except (OSError, queue.Empty) as error:
            raise BrowserError(f"{method}: no reply from Chromium ({error or 'too slow'})") from error
        if "id" not in reply:
            raise BrowserError(f"{method}: Chromium has ended")
        if "error" in reply:
            raise BrowserError(f"{method}: {reply['error'].get('message')}")
        return reply["result"]

    def close(self) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(END_S)
        except (BrowserError, subprocess.TimeoutExpired):
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(END_S)
        os.close(self._to_browser)
        os.close(self._from_browser)

    def _read(self) -> None:
        rest = b""
        while data := os.read(self._from_browser, 1 << 16):
            *messages, rest = (rest + data).split(b"\0")
            for text in messages:
                message = json.loads(text)
                if "id" in message:
                    self._replies.put(message)
                elif handle := self.on_event.get(message.get("sessionId", "")):
                    handle(message["method"], message["params"])
        self._replies.put({})  # the end


@contextmanager
def browser(program: str, options: Sequence[str] = ()) -> Iterator[Browser]:
    """Run `program`, a Chromium, with an empty profile."""
    with tempfile.TemporaryDirectory(prefix="flash_vstream_browser_", ignore_cleanup_errors=True) as folder:
        for_browser, to_browser = os.pipe()
        from_browser, by_browser = os.pipe()
        # Chromium reads descriptor 3 and writes descriptor 4; MOVE puts ours there.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (for_browser, by_browser)]
        os.close(for_browser)
        os.close(by_browser)
        command = [program, *OPTIONS, *options, PIPE, f"--user-data-dir={folder}"]
        process = subprocess.Popen(
            [sys.executable, "-c", MOVE, *map(str, ends), *command],
            pass_fds=ends,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for end in ends:
            os.close(end)
        running = Browser(process, to_browser, from_browser)
        try:
            yield running
        finally:
            running.close()


def _reason(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details.get("text"))
