"""Common to the HTTP servers of `mcp --http` and `web`: arguments, listening socket, hosts, token, uvicorn."""

from __future__ import annotations

import argparse
import hmac
import importlib
import ipaddress
import socket
import sys
from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flash_vstream_ros.process import importing

from .argument_types import port, text

if TYPE_CHECKING:
    import uvicorn

TOKEN_CHARS = 16  # least
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
CLOSE_S = 2  # longest wait for open connections at the end
STUCK_MS = 30_000  # a client that takes no data for this long is disconnected
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def add_server_arguments(parser: argparse.ArgumentParser, default_port: int, condition: str = "") -> None:
    """Add `--host`, `--port`, `--token-file` and `--allow-host`; `condition` is the option that they need."""
    only = f"with {condition}: " if condition else ""
    parser.add_argument(
        "--host", type=text, default="127.0.0.1", help=f"{only}address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=port, default=default_port, help=f"{only}port to listen on; 0: a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"{only}serve only requests with the bearer token in FILE, of {TOKEN_CHARS} characters or more;"
        " needed for a --host that other machines can reach",
    )
    parser.add_argument(
        "--allow-host",
        type=text,
        action="append",
        default=[],
        metavar="NAME",
        help=f"{only}a further host name or address under which clients reach the server; may be repeated",
    )


def token_of(args: argparse.Namespace) -> str:
    """The token of --token-file; empty: none. Raises OSError if it cannot be read and ValueError if it is refused."""
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


def run_server(
    args: argparse.Namespace, extra: str, modules: Sequence[str], serve: Callable[[str], int], has_socket: bool = True
) -> int:
    """Check the token, if there is a socket, and the modules of an extra; then `serve(token)`. Returns its status."""
    try:
        token = token_of(args) if has_socket else ""
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        with importing():
            for module in modules:
                importlib.import_module(module)
            from flash_vstream_ros.client import ClientError
    except ModuleNotFoundError as error:
        print(f"{error}: pip install 'flash_vstream_ros[{extra}]'", file=sys.stderr)
        return 1
    try:
        return serve(token)
    except ClientError as error:
        print(error, file=sys.stderr)
        return 1


def listen(host: str, port: int) -> socket.socket:
    """A socket on a free port if `port` is 0. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted connections inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK_MS)
    return listener


def cannot_listen(host: str, port: int, error: OSError) -> str:
    """The sentence for an OSError of `listen`."""
    return f"cannot listen on {host} port {port}: {error.strerror or error}"


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{_bracketed(host)}:{port}"


def hosts_of(listener: socket.socket, names: Collection[str]) -> list[str]:
    """Host headers of requests to this server; `names` are further hosts under which clients reach it.

    These are also accepted without the port, as a proxy on the default port passes them on.
    """
    host, port = listener.getsockname()[:2]
    further = [*map(_bracketed, names)]
    return [*further, *(f"{name}:{port}" for name in {*LOOPBACK_NAMES, _bracketed(host), *further})]


def has_token(scope: MutableMapping[str, Any], token: str) -> bool:
    """Whether a request carries this bearer token."""
    given = dict(scope.get("headers", ())).get(b"authorization", b"")
    return hmac.compare_digest(given, f"Bearer {token}".encode())


def server_config(app: App, **options: Any) -> uvicorn.Config:
    """Configuration of uvicorn for `app`: it logs warnings and errors only, and no requests."""
    import uvicorn

    return uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=CLOSE_S,
        **options,
    )


def _is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
