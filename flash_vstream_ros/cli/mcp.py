"""`flash-vstream-ros mcp`: let agents ask a running node through the Model Context Protocol."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from flash_vstream_ros.process import INTERRUPTED, end_process, importing

from .argument_types import port, text
from .ask import add_node_arguments

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from flash_vstream_ros.client import AskClient

    from .agents.node_thread import NodeThread

TOKEN_CHARS = 16  # least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--http", action="store_true", help="serve over streamable HTTP at /mcp, not on stdin and stdout"
    )
    parser.add_argument(
        "--host", type=text, default="127.0.0.1", help="address to listen on with --http (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=port, default=8765, help="port to listen on with --http; 0: a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"with --http: serve only requests with the bearer token in FILE, of {TOKEN_CHARS} characters or more;"
        " needed for a --host that other machines can reach",
    )
    parser.add_argument(
        "--allow-host",
        type=text,
        action="append",
        default=[],
        metavar="NAME",
        help="with --http: a further host name or address under which clients reach the server; may be repeated",
    )
    parser.add_argument("--allow-forget", action="store_true", help="offer the tool forget; else all tools only read")
    add_node_arguments(
        parser, "let each call wait for the node to appear and to load its model [s] (default: %(default)g)"
    )


def run(args: argparse.Namespace) -> int:
    try:
        token = _token(args)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        with importing():
            import mcp  # noqa: F401

            from flash_vstream_ros.client import ClientError

            from .node_client import node_client
    except ModuleNotFoundError as error:
        print(f"{error}: pip install 'flash_vstream_ros[mcp]'", file=sys.stderr)
        return 1
    from .agents.node_thread import NodeThread

    try:
        with node_client(args) as client, NodeThread(client) as node:
            return _serve(args, client, node, token)
    except ClientError as error:
        print(error, file=sys.stderr)
        return 1


def _token(args: argparse.Namespace) -> str:
    """The token of --token-file; empty: none. Raises OSError if it cannot be read and ValueError if it is refused."""
    if not args.http:
        return ""
    if not args.token_file:
        if _is_loopback(args.host):
            return ""
        raise ValueError(f"other machines can reach {args.host}: --token-file is needed")
    token = Path(args.token_file).expanduser().read_text(encoding="utf-8").strip()
    if len(token) < TOKEN_CHARS or not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError(
            f"the token in {args.token_file} must be {TOKEN_CHARS} or more ASCII characters without spaces"
        )
    return token


def _is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _serve(args: argparse.Namespace, client: AskClient, node: NodeThread, token: str) -> int:
    import asyncio

    from .agents.server import agent_server, serve_stdio
    from .agents.tools import KINDS, SceneTools

    allowed = {kind.option for kind in KINDS if kind.option and getattr(args, kind.option)}
    server = agent_server(SceneTools(node, args.wait), allowed)
    if args.http:
        return _serve_http(args, server, token)

    def end() -> NoReturn:
        node.__exit__()
        client.__exit__()
        end_process(INTERRUPTED)

    asyncio.run(serve_stdio(server, end))
    return 0


def _serve_http(args: argparse.Namespace, server: MCPServer, token: str) -> int:
    from .agents.server import PATH, http_server, listen

    try:
        listener = listen(args.host, args.port)
    except OSError as error:
        print(f"cannot listen on {args.host} port {args.port}: {error.strerror or error}", file=sys.stderr)
        return 1
    with listener:
        host, port = listener.getsockname()[:2]
        print(f"serving http://{f'[{host}]' if ':' in host else host}:{port}{PATH}", file=sys.stderr, flush=True)
        http_server(server, listener, args.allow_host, token).run(sockets=[listener])
    return 0
