"""`flash-vstream-ros mcp`: let agents ask a running node through the Model Context Protocol."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from flash_vstream_ros.process import INTERRUPTED, end_process, importing

from .ask import add_node_arguments
from .http_server import add_server_arguments, cannot_listen, listen, run_server, url_of

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from flash_vstream_ros.client import AskClient

    from .agents.node_thread import NodeThread


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--http", action="store_true", help="serve over streamable HTTP at /mcp, not on stdin and stdout"
    )
    add_server_arguments(parser, 8765, "--http")
    parser.add_argument("--allow-forget", action="store_true", help="offer the tool forget")
    parser.add_argument(
        "--allow-watch",
        action="store_true",
        help="offer the tools add_watch and remove_watch; without these two options all tools only read",
    )
    add_node_arguments(
        parser, "let each call wait for the node to appear and to load its model [s] (default: %(default)g)"
    )


def run(args: argparse.Namespace) -> int:
    return run_server(args, "mcp", ("mcp",), lambda token: _serve_node(args, token), args.http)


def _serve_node(args: argparse.Namespace, token: str) -> int:
    """Raises ClientError."""
    with importing():
        from .node_client import node_client
    from .agents.node_thread import NodeThread

    with node_client(args) as client, NodeThread(client) as node:
        return _serve(args, client, node, token)


def _serve(args: argparse.Namespace, client: AskClient, node: NodeThread, token: str) -> int:
    import asyncio

    from .agents.server import agent_server, serve_stdio
    from .agents.tools import KINDS, SceneTools

    allowed = {kind.option for kind in KINDS if kind.option and getattr(args, kind.option)}
    server = agent_server(SceneTools(node, args.wait), allowed)
    if args.http:
        return _serve_http(args, server, token)

    def end() -> NoReturn:  # the `with` blocks do not end, since a thread waits for the next line
        node.close()
        client.close()
        end_process(INTERRUPTED)

    asyncio.run(serve_stdio(server, end))
    return 0


def _serve_http(args: argparse.Namespace, server: MCPServer, token: str) -> int:
    from .agents.server import PATH, http_server

    try:
        listener = listen(args.host, args.port)
    except OSError as error:
        print(cannot_listen(args.host, args.port, error), file=sys.stderr)
        return 1
    with listener:
        print(f"serving {url_of(listener)}{PATH}", file=sys.stderr, flush=True)
        http_server(server, listener, args.allow_host, token).run(sockets=[listener])
    return 0
