"""`flash-vstream-ros web`: show a running node on a web page, and ask it there."""

from __future__ import annotations

import argparse
import os
import sys

from flash_vstream_ros.process import exit_on_interrupt, importing

from .argument_types import text
from .ask import add_node_arguments
from .http_server import add_server_arguments, cannot_listen, listen, run_server, url_of

DEFAULT_PORT = 8766


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_server_arguments(parser, DEFAULT_PORT)
    parser.add_argument("--open", action="store_true", help="open the page in this machine's browser")
    parser.add_argument("--service", type=text, default="ask_scene", help="name of the service (default: %(default)s)")
    add_node_arguments(
        parser, "let each question wait for the node to appear and to load its model [s] (default: %(default)g)"
    )


def run(args: argparse.Namespace) -> int:
    return run_server(args, "web", ("starlette", "uvicorn"), lambda token: _serve(args, token))


def _serve(args: argparse.Namespace, token: str) -> int:
    """Serve until a signal ends the process. Raises ClientError."""
    with importing():
        from .agents.node_thread import NodeThread
        from .live_view.app import WebServer
        from .live_view.board import Board
        from .live_view.feed import Feed
        from .live_view.scene_requests import SceneRequests
        from .node_client import node_client
    try:
        listener = listen(args.host, args.port)
    except OSError as error:
        print(cannot_listen(args.host, args.port, error), file=sys.stderr)
        return 1
    with (
        listener,
        node_client(args, args.service) as asking,
        node_client(args, args.service) as watching,
        NodeThread(asking) as node,
    ):
        board = Board()
        server = WebServer(
            board,
            Feed(watching, args.node, board),
            SceneRequests(node, args.wait),
            listener,
            args.allow_host,
            token,
        )
        print(f"serving {url_of(listener)}", file=sys.stderr, flush=True)
        if args.open:
            _open(url_of(listener))
        try:
            server.run(sockets=[listener])
        finally:
            exit_on_interrupt()  # Ctrl-C and then SIGTERM, as `demo --web` sends them, would interrupt the cleanup
    return 0


def _open(url: str) -> None:
    """Open a page in a browser, where there is a display."""
    import webbrowser

    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)
