"""A hub of one model on this machine: it serves a folder, and may break off in the middle of some files."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789" * 4
MODEL = "some/model"


@contextmanager
def hub_of(folder: Path, cut: tuple[str, ...] = ()) -> Iterator[str]:
    """The address of a hub that serves a folder. Files named in `cut` are truncated half way."""
    files = {file.name: file.read_bytes() for file in folder.iterdir()}

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self._reply(self._content()[1], b"")

        def do_GET(self) -> None:
            if self.path.startswith("/api/models/") and not self.path.startswith(f"/api/models/{MODEL}"):
                self._reply_unknown()
                return
            name, content = self._content()
            self._reply(content, content[: len(content) // 2] if name in cut else content)

        def _content(self) -> tuple[str, bytes]:
            path = self.path.partition("?")[0]
            name = path.rpartition("/")[2]
            if "/tree/" in path:
                return "", json.dumps([_entry(file, len(content)) for file, content in files.items()]).encode()
            if path.startswith("/api/"):
                siblings = [{"rfilename": file, "size": len(content)} for file, content in files.items()]
                return "", json.dumps({"id": MODEL, "sha": COMMIT, "siblings": siblings, "tags": []}).encode()
            return name, files[name]

        def _reply(self, whole: bytes, sent: bytes) -> None:
            self.send_response(200)
            self.send_header("ETag", f'"{self.path.rpartition("/")[2]}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(sent)
            self.close_connection = True

        def _reply_unknown(self) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def _entry(name: str, size: int) -> dict[str, object]:
    return {"type": "file", "path": name, "size": size, "oid": name}
