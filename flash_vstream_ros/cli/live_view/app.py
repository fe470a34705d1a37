"""The web application: the page's files, the stream of events, images, questions and searches."""

from __future__ import annotations

import asyncio
import mimetypes
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from importlib.resources import files

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..http_server import hosts_of, server_config
from .access import CheckedAccess
from .board import MAX_VIEWERS, Board, json_line
from .feed import Feed
from .scene_requests import BadRequest, SceneRequest, SceneRequests

MAX_BODY_BYTES = 16 * 1024
BODY_S = 10.0  # longest time for a request's body to arrive
MAX_CONNECTIONS = 256
BEAT_S = 10.0  # longest pause of the stream of events
LINES = "application/x-ndjson"


class WebServer(uvicorn.Server):
    """Serves the page on a listening socket; `names` are further hosts under which clients reach it.

    It starts and stops the feed. Open streams end when it stops.
    """

    def __init__(
        self,
        board: Board,
        feed: Feed,
        requests: SceneRequests,
        listener: socket.socket,
        names: Collection[str] = (),
        token: str = "",
    ) -> None:
        app = CheckedAccess(application(board, feed, requests), hosts_of(listener, names), token)
        super().__init__(server_config(app, limit_concurrency=MAX_CONNECTIONS, ws="none", server_header=False))
        self._board = board

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._board.close()
        await super().shutdown(sockets)


def application(board: Board, feed: Feed, requests: SceneRequests) -> Starlette:
    """The application without any check of access."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        board.loop = asyncio.get_running_loop()
        feed.start()
        try:
            yield
        finally:
            await asyncio.to_thread(feed.stop)

    async def events(_: Request) -> Response:
        if board.full:
            return JSONResponse({"error": f"{MAX_VIEWERS} pages are open already: close one of them"}, 503)
        return StreamingResponse(_events(board), media_type=LINES)

    async def image(request: Request) -> Response:
        jpeg = board.images.get(request.path_params["name"])
        return Response(jpeg, media_type="image/jpeg") if jpeg else Response(status_code=404)

    async def ask(asked: SceneRequest) -> Response:
        return StreamingResponse(requests.ask(asked), media_type=LINES)

    async def search(asked: SceneRequest) -> Response:
        return JSONResponse(await requests.search(asked))

    return Starlette(
        routes=[
            *page_routes(),
            Route("/api/events", events),
            Route("/api/images/{name}", image),
            Route("/api/ask", _reading(ask), methods=["POST"]),
            Route("/api/search", _reading(search), methods=["POST"]),
        ],
        lifespan=lifespan,
    )


async def _events(board: Board) -> AsyncIterator[bytes]:
    with board.viewer() as viewer:
        while True:
            try:
                lines = await asyncio.wait_for(viewer.lines(), BEAT_S)
            except asyncio.TimeoutError:
                lines = json_line({"kind": "beat"})
            if not lines:
                return
            yield lines


def page_routes() -> list[Route]:
    """A route for each file of the page, which is read once; `/` is index.html."""
    routes = []
    for file in files(f"{__package__}").joinpath("page").iterdir():
        kind = mimetypes.guess_type(file.name)[0]
        if file.is_file() and kind:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            routes.append(Route(path, _constant(file.read_bytes(), kind)))
    return routes


def _constant(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def respond(_: Request) -> Response:
        return Response(content, media_type=kind)

    return respond


def _reading(answer: Callable[[SceneRequest], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """`answer` for the body of a request; a bad or slow one is refused."""

    async def respond(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return JSONResponse({"error": "the body must be application/json"}, 415)
        try:
            return await answer(SceneRequest.of(await asyncio.wait_for(_body(request), BODY_S)))
        except BadRequest as error:
            return JSONResponse({"error": str(error)}, 400)
        except asyncio.TimeoutError:
            return JSONResponse({"error": "the body did not arrive"}, 408)
        except ClientDisconnect:
            return Response(status_code=400)

    return respond


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise BadRequest(f"the body has more than {MAX_BODY_BYTES} bytes")
    return body
