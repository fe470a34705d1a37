"""Checks who sends a request before anything else is done with it, and adds the headers that protect the page."""

from __future__ import annotations

from collections.abc import Collection, MutableMapping
from typing import Any, NamedTuple

from starlette.responses import PlainTextResponse

from ..http_server import App, Receive, Send, has_token

DATA = "/api/"  # paths below it need the token; the page itself has no data
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class Refusal(NamedTuple):
    status: int
    sentence: str


class CheckedAccess:
    """Passes to `app` only requests to one of `hosts`, of its own page, with the token if it has one.

    A page of another site can reach a server on 127.0.0.1 through the visitor's browser, also under its own name (DNS
    rebinding). The headers Host, Origin and Sec-Fetch-Site tell such requests apart; pages cannot set them.
    """

    def __init__(self, app: App, hosts: Collection[str], token: str) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._origins = frozenset(f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts)
        self._token = token

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_protected(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        refusal = self._refusal(scope)
        app = self._app if refusal is None else _refused(refusal)
        await app(scope, receive, send_protected)

    def _refusal(self, scope: MutableMapping[str, Any]) -> Refusal | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get(b"host") not in self._hosts:
            return Refusal(421, "this server has another host name: start it with --allow-host NAME")
        if headers.get(b"origin", "") not in {"", *self._origins}:
            return Refusal(403, "pages of other sites are refused")
        if not scope["path"].startswith(DATA):
            return None
        if headers.get(b"sec-fetch-site", "none") not in ("none", "same-origin"):
            return Refusal(403, "requests of other sites are refused")
        if self._token and not has_token(scope, self._token):
            return Refusal(401, "a bearer token is needed")
        return None


def _refused(refusal: Refusal) -> App:
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
    response: App = PlainTextResponse(refusal.sentence, refusal.status, headers)
    return response
