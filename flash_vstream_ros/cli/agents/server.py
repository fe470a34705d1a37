"""Builds the Model Context Protocol server, and serves it over HTTP or on the standard streams."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Collection, MutableMapping
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import ToolAnnotations
from starlette.responses import PlainTextResponse

from flash_vstream_ros import __version__
from flash_vstream_ros.process import END_SIGNALS

from ..http_server import App, Receive, Send, has_token, hosts_of, server_config
from .tools import KINDS, UNTRUSTED, SceneTools

PATH = "/mcp"
MAX_REQUEST_BYTES = 1 << 20


def agent_server(tools: SceneTools, allowed: Collection[str] = ()) -> MCPServer:
    """A server with the tools that only read, and those of the options in `allowed`."""
    server = MCPServer("flash_vstream_ros", version=__version__, instructions=UNTRUSTED, log_level="WARNING")
    for kind in KINDS:
        if kind.option and kind.option not in allowed:
            continue
        for tool in kind.tools:
            server.add_tool(
                getattr(tools, tool.__name__),
                description=f"{' '.join((tool.__doc__ or '').split())} {UNTRUSTED}",
                annotations=ToolAnnotations(
                    read_only_hint=kind.read_only, destructive_hint=kind.destructive, open_world_hint=False
                ),
                structured_output=False,
            )
    return server


async def serve_stdio(server: MCPServer, on_signal: Callable[[], None]) -> None:
    """Serve one client on the standard streams until it closes them.

    `on_signal` has to end the process: a thread that waits for the next line cannot be interrupted.
    """
    for number in END_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, on_signal)
    await server.run_stdio_async()


def http_server(server: MCPServer, listener: socket.socket, names: Collection[str], token: str) -> uvicorn.Server:
    """The HTTP server on a listening socket. `names` are more host names under which clients reach it.

    It refuses requests whose Host or Origin header names another host and, if there is a token, those without it.
    """
    hosts = hosts_of(listener, names)
    security = TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=[f"http://{host}" for host in hosts])
    app: Any = server.streamable_http_app(
        streamable_http_path=PATH, transport_security=security, max_request_body_size=MAX_REQUEST_BYTES
    )
    return uvicorn.Server(server_config(_with_token(app, token) if token else app))


def _with_token(app: App, token: str) -> App:
    """`app` for requests with this bearer token; others get status 401."""

    async def checked(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or has_token(scope, token):
            await app(scope, receive, send)
        else:
            refused = PlainTextResponse("a bearer token is needed", 401, {"WWW-Authenticate": "Bearer"})
            await refused(scope, receive, send)

    return checked
