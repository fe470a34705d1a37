"""Keeps watches in a file over restarts. A thread writes, so that no frame waits for the disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path

from flash_vstream_ros.memory.private_file import write_private

from .watch import Watch

FORMAT = 1
MAX_BYTES = 1 << 20
NUMBERS = ("period_s", "hold_s", "release_s", "cooldown_s", "on", "off")
LAST_WRITE_S = 3.0  # longest wait for the disk at the end


class WatchFileError(RuntimeError):
    """The watches could not be read or written; the message names the file and says what to do."""


class WatchFile:
    """The file `path`, readable by its owner only. Owned by the engine's worker; a thread writes."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        self._writer = ThreadPoolExecutor(1, "flash-vstream-watches")
        self._newest: Future[None] | None = None

    def read(self) -> list[Watch]:
        """The watches in the file; none if there is no file. Raises WatchFileError."""
        try:
            if not self.path.exists():
                return []
            if self.path.stat().st_size > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES} bytes")
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            if kept["format"] != FORMAT:
                raise ValueError(f"its format is {kept['format']!r}, not {FORMAT}")
            return [_watch(each) for each in kept["watches"]]
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            raise WatchFileError(f"no watches are restored from {self.path}: {error}{self._set_aside()}") from error

    def write(self, watches: Sequence[Watch]) -> Future[None]:
        """Replace the contents of the file. The future raises WatchFileError."""
        self._newest = self._writer.submit(self._write, tuple(watches))
        return self._newest

    def close(self) -> None:
        """Wait for the disk, at most LAST_WRITE_S."""
        if self._newest is not None:
            wait([self._newest], LAST_WRITE_S)
        self._writer.shutdown(wait=False)

    def _write(self, watches: Sequence[Watch]) -> None:
        text = json.dumps({"format": FORMAT, "watches": [asdict(watch) for watch in watches]}, indent=1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_private(self.path, text.encode())
        except OSError as error:
            raise WatchFileError(f"the watches were not written to {self.path}: {error}") from error

    def _set_aside(self) -> str:
        """Keep a file that is unusable. Returns the end of a sentence about it."""
        aside = self.path.with_name(self.path.name + ".unusable")
        try:
            self.path.replace(aside)
        except OSError as error:
            return f"; it is overwritten by the next change, since it could not be moved: {error}"
        return f"; it is kept as {aside}"


def _watch(kept: dict[str, object]) -> Watch:
    """A watch from its values in the file. Raises TypeError, ValueError or LookupError."""
    cameras = kept["cameras"]
    if not isinstance(cameras, list):
        raise TypeError("cameras must be a list")
    numbers = {name: float(kept[name]) for name in NUMBERS}  # type: ignore[arg-type]
    return Watch(str(kept["id"]), str(kept["text"]), tuple(map(str, cameras)), **numbers)
