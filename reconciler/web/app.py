"""The ASGI application: routes of the API from its OpenAPI document, the status page, and the middleware around
both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Match, Route

from reconciler.model.errors import FivrecError
from reconciler.web.access_log import AccessLog
from reconciler.web.calls import handler
from reconciler.web.endpoints import ENDPOINTS
from reconciler.web.live import Live
from reconciler.web.login import prepare_logins
from reconciler.web.middleware import BodyLimit, CutOff, SecurityHeaders, WholeSegments
from reconciler.web.openapi import operations, served_document
from reconciler.web.pages import Handler, Pages
from reconciler.web.problems import build_response
from reconciler.web.service import Service

if TYPE_CHECKING:
    from reconciler.web.fleet_pages import FleetPages

NOT_FOUND = 404


def build_app(service: Service) -> Starlette:
    """`state.stop` ends the streams of live updates; call it before the server waits for its connections."""
    live = Live(service.run, service.instances)
    pages = Pages(service, live)
    fleet = _fleet_pages(pages)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await prepare_logins(service.instances.values())
        if fleet is not None:
            fleet.board.look()
        yield
        if fleet is not None:
            await fleet.board.aclose()
        await live.aclose()
        if service.run.connect is not None:
            await service.run.connect.aclose()
        if service.run.pool is not None:
            await service.run.pool.aclose()

    app = Starlette(
        routes=[*_api(service), *(fleet.routes() if fleet else ()), *pages.routes()],
        middleware=[
            Middleware(AccessLog, log=service.run.log),
            Middleware(SecurityHeaders, secure=service.secure),
            Middleware(CutOff),
            Middleware(BodyLimit),
            Middleware(WholeSegments),
        ],
        exception_handlers={HTTPException: _http_error(pages), ClientDisconnect: _gone, Exception: _unforeseen},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would redirect to whatever host the request names
    app.state.stop = live.stop
    return app


def _fleet_pages(pages: Pages) -> FleetPages | None:
    if pages.service.fleet is None:
        return None
    from reconciler.web.fleet_board import FleetBoard
    from reconciler.web.fleet_pages import FleetPages

    return FleetPages(
        pages, pages.service.fleet, FleetBoard(pages.service.instances, pages.service.unserved, pages.service.run)
    )


def _api(service: Service) -> list[Route]:
    """One route per path, so that an unsupported method gets 405 with all supported ones in Allow. Both forms of a
    path exist, because instances come and go with the manifests: the one for a single instance, and the one below
    its name."""
    by_path: dict[str, dict[str, Handler]] = {}
    for operation in operations():
        endpoint, rules = ENDPOINTS[operation.id]
        answer = handler(service, operation, endpoint, rules)
        for under in ("",) if operation.id == "health" else ("", "/instances/{instance}"):
            by_path.setdefault(f"{under}{operation.path}", {})[operation.method] = answer
    routes = [Route(path, _by_method(handlers), methods=list(handlers)) for path, handlers in by_path.items()]
    return [Route("/openapi.json", _document(service), methods=["GET"]), *routes]


def _by_method(handlers: Mapping[str, Handler]) -> Handler:
    async def dispatch(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await handlers[method](request)

    return dispatch


def _document(service: Service) -> Handler:
    async def answer(_: Request) -> Response:
        return JSONResponse(served_document(single=service.single, fleet=service.fleet is not None))

    return answer


def _http_error(pages: Pages) -> Callable[[Request, Exception], Awaitable[Response]]:
    """The answer to an unknown route: a page for a browser that follows a link, otherwise a problem document."""

    async def answer(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)  # noqa: S101 (registered for it)
        if exc.status_code == NOT_FOUND and (place := _without_slash(request)):
            return RedirectResponse(place, 307)
        code = {404: "not_found", 405: "method_not_allowed"}.get(exc.status_code, "usage")
        error = FivrecError(exc.detail, hint="/openapi.json lists the routes", code=code)
        reads = request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", "")
        response = pages.show_error(request, error) if reads else build_response(error)
        response.headers.update(exc.headers or {})
        return response

    return answer


def _without_slash(request: Request) -> str | None:
    """The redirect target for `/docs/`, relative to this host; None if there is no such page either."""
    scope = {**request.scope, "path": "/" + request.scope["path"].strip("/")}
    if scope["path"] == request.scope["path"] or request.scope["path"] == "/":
        return None
    if all(route.matches(scope)[0] is Match.NONE for route in request.app.routes):
        return None
    query = f"?{request.url.query}" if request.url.query else ""
    return quote(scope["path"]) + query


async def _gone(_: Request, __: Exception) -> Response:
    """The client disconnected before its body was complete: nobody reads this answer, and nothing went wrong here."""
    return Response(status_code=400)


async def _unforeseen(_: Request, exc: Exception) -> Response:
    """Returns only the type: the text could contain anything. uvicorn logs the place."""
    problem = {
        "type": "urn:fivrec:problem:internal",
        "title": "fivrec failed unexpectedly",
        "status": 500,
        "code": "internal",
        "detail": type(exc).__name__,
    }
    return JSONResponse(problem, 500, media_type="application/problem+json")
