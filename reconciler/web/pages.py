"""The status page's routes: login, fleet, instance, the notice while it is locked, live events, the API's page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import quote

from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from reconciler.model.errors import FivrecError
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import Desired
from reconciler.support.places import ask_each
from reconciler.web import page
from reconciler.web.access_log import address_of, facts_of
from reconciler.web.calls import in_time
from reconciler.web.live import Live
from reconciler.web.login import Credentials, Denied, give_back, log_in, record_call
from reconciler.web.openapi import served_document
from reconciler.web.operations import check_now
from reconciler.web.overview import read_detail, read_overview
from reconciler.web.problems import http_status
from reconciler.web.responses import etag_of, matches
from reconciler.web.service import Service
from reconciler.web.sessions import (
    checked_form,
    drop_cookie,
    form_token,
    granted,
    login_page,
    page_after_login,
    put_cookie,
    read_session,
    renew,
    session_is_open,
    standing_in,
    with_grant,
)
from reconciler.web.tokens import Session
from reconciler.web.translations import choose_language, load_translations

Handler = Callable[[Request], Awaitable[Response]]
_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "mark.svg": "image/svg+xml"}
_AT_ONCE = 8
COMPRESSED = (Middleware(GZipMiddleware, minimum_size=32 * 1024, compresslevel=6),)
"""For answers that grow with the fleet: of 2,000 instances a page has 3.3 MB, and 75 kB compressed."""


@dataclass(frozen=True, slots=True)
class Pages:
    """The handlers of one server."""

    service: Service
    live: Live

    def routes(self) -> list[Route]:
        return self.build_routes(
            ("/", self.fleet, "GET"),
            ("/login", self.login, "GET"),
            ("/login", self.enter, "POST"),
            ("/logout", self.leave, "POST"),
            ("/events", self.events, "GET"),
            ("/docs", self.docs, "GET"),
            ("/instances/{instance}", self.instance, "GET"),
            ("/instances/{instance}/check", self.check, "POST"),
            ("/instances/{instance}/check", self.checked, "GET"),
            ("/static/{name}", self.static, "GET"),
        )

    def build_routes(self, *shown: tuple[str, Handler, str]) -> list[Route]:
        """Of paths, handlers and methods."""
        return [
            Route(path, self._guard(handler, path), methods=[method], middleware=COMPRESSED if path == "/" else None)
            for path, handler, method in shown
        ]

    def _guard(self, handler: Handler, path: str) -> Handler:
        """An expected error becomes a page that shows it."""

        async def answer(request: Request) -> Response:
            facts = facts_of(request)
            facts.route, facts.instance = path, request.path_params.get("instance")
            if facts.instance not in self.service.instances:
                facts.instance = None  # what was typed is not repeated
            return await in_time(self.service.run, handler(request), partial(self.show_error, request))

        return answer

    async def fleet(self, request: Request) -> Response:
        session = read_session(self.service, request)
        seen = await self._seen(session)
        if session is None or not seen:
            return RedirectResponse(login_page(f"/?{request.url.query}" if request.url.query else "/"), 303)
        overviews = await ask_each(seen, partial(read_overview, run=self.service.run), _AT_ONCE)
        query, language = request.query_params, language_of(request)
        context = page.fleet(
            overviews, language, self.service.run.now(), q=query.get("q", ""), status=query.get("status", "")
        )
        return self._inside(request, session, "fleet.html", 200, "/events", **context)

    async def instance(self, request: Request, said: str = "") -> Response:
        session = read_session(self.service, request)
        if session is None:
            return RedirectResponse(login_page(_instance_page(request)), 303)
        desired = self.find(request.path_params["instance"])
        standing = await standing_in(self.service, session, desired)
        if standing is None:
            return RedirectResponse(login_page(_instance_page(request), instance=desired.instance), 303)
        events = f"/events?instance={desired.instance}"
        if standing.locked:
            overview = await read_overview(desired, self.service.run)
            return self._inside(request, session, "notice.html", 423, events, overview=overview, said=said)
        detail = await read_detail(desired, self.service.run)
        context = page.instance(detail, language_of(request))
        return self._inside(request, session, "instance.html", 200, events, said=said, **context)

    async def check(self, request: Request) -> Response:
        """A manual status check by the button, also while the instance is locked."""
        session = read_session(self.service, request)
        if session is None:
            return RedirectResponse(login_page(_instance_page(request)), 303)
        await checked_form(self.service, request, session)
        desired = self.find(request.path_params["instance"])
        standing = await standing_in(self.service, session, desired)
        if standing is None:
            return RedirectResponse(login_page(_instance_page(request), instance=desired.instance), 303)
        address = address_of(request)
        run = self.service.run_for(address, standing.account)
        await record_call(desired, run, "POST /instances/check", "checkStatus", address)
        report = await check_now(desired, run)
        if report.error is not None:
            return await self.instance(request, said=report.error.message)
        return RedirectResponse(f"/instances/{desired.instance}", 303)

    async def checked(self, request: Request) -> Response:
        """Redirects a browser that opens the address of a failed check again."""
        return RedirectResponse(page.link_to(self.find(request.path_params["instance"]).instance), 303)

    async def login(self, request: Request) -> Response:
        session = read_session(self.service, request)
        if not ({"add", "instance"} & set(request.query_params)) and await self._seen(session):
            return RedirectResponse(page_after_login(request.query_params.get("next", "")), 303)
        typed = {name: request.query_params.get(name, "") for name in ("instance", "next")}
        return self._door(request, 200, **typed)

    async def enter(self, request: Request) -> Response:
        form = await checked_form(self.service, request, None)
        email, password, name = (form.get(field, "") for field in ("email", "password", "instance"))
        typed, facts = {"email": email, "instance": name, "next": form.get("next", "")}, facts_of(request)
        try:
            desired = self.find(name) if not self.service.single else next(iter(self.service.instances.values()))
            given = Credentials(_plain(email), Secret(password), address_of(request))
            facts.instance = desired.instance
            run = replace(self.service.run_for(given.address), id=facts.id)
            account = await log_in(desired, run, given, self.service.limit, self.service.attempts)
        except FivrecError as exc:
            facts.login_failed = isinstance(exc, Denied)
            words = load_translations(language_of(request))
            said = words.get(exc.code, words["unavailable"])
            return self._door(request, http_status(exc), error=said, **typed)
        facts.actor = account.email
        response = RedirectResponse(self._place(typed["next"], desired), 303)
        session = read_session(self.service, request)
        if session is not None and (await self.service.standing(desired, account.id, session.jti)).revoked:
            session = None  # signed out here before: a new one begins
        put_cookie(self.service, request, response, with_grant(self.service, session, desired, account))
        return response

    def _place(self, wanted: str, desired: Desired) -> str:
        """Where the login leads: never to an instance for which it was not."""
        own, place = page.link_to(desired.instance), page_after_login(wanted)
        if place == "/" and self.service.single:
            return own
        return place if place == own or place.startswith("/?") else "/"

    async def leave(self, request: Request) -> Response:
        session = read_session(self.service, request)
        response = RedirectResponse("/login", 303)
        drop_cookie(self.service, request, response)
        if session is None:
            return response
        await checked_form(self.service, request, session)
        await self.give_back_all(request, session)
        return response

    async def give_back_all(self, request: Request, session: Session) -> None:
        """End the session in each of its instances."""
        self.live.end(session.jti)
        for desired in granted(self.service, session):
            standing = await standing_in(self.service, session, desired)
            if standing is not None:
                run = self.service.run_for(address_of(request), standing.account)
                await record_call(desired, run, "POST /logout", "logout", address_of(request))
                # Renewed tokens have the same jti: it is kept until the last of them has expired.
                await give_back(desired, run, session.jti, session.over_at)

    async def events(self, request: Request) -> Response:
        session = read_session(self.service, request)
        seen = await self._seen(session)
        name = request.query_params.get("instance")
        watched = frozenset(item.instance for item in seen if name in (None, item.instance))
        if session is None or not watched:
            return Response(status_code=401)
        await self.live.look_first(watched)

        async def counts() -> bool:
            still = session_is_open(self.service, session) and await self._seen(session, watched)
            return watched <= {item.instance for item in still or ()}

        response = self.live.stream(request, watched, session=session.jti, counts=counts)
        renew(self.service, session, request, response)
        return response

    async def docs(self, request: Request) -> Response:
        document = served_document(single=self.service.single, fleet=self.service.fleet is not None)
        base = str(request.base_url).rstrip("/")
        return self.show(request, "docs.html", 200, document=document, base=base)

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            raise FivrecError("there is no such file", code="not_found")
        content = page.static(name)
        headers = {"Cache-Control": "no-cache", "ETag": etag_of(content)}
        if matches(request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=_STATIC[name], headers=headers)

    async def _seen(self, session: Session | None, among: frozenset[str] | None = None) -> tuple[Desired, ...]:
        """The instances that the session's accounts may see; an instance that can't be read now stays listed."""
        if session is None:
            return ()

        async def may(desired: Desired) -> bool:
            try:
                return await standing_in(self.service, session, desired) is not None
            except FivrecError:
                return True

        listed = [item for item in granted(self.service, session) if among is None or item.instance in among]
        admitted = await ask_each(listed, may, _AT_ONCE)
        return tuple(item for item, let_in in zip(listed, admitted, strict=True) if let_in)

    def find(self, name: str) -> Desired:
        found = self.service.instances.get(name)
        if found is None:
            raise FivrecError("no such instance is served here", code="instance_unknown")
        return found

    def show_error(self, request: Request, exc: FivrecError) -> Response:
        known = load_translations(language_of(request)).get(exc.code)
        said, hint = (known, "") if known else (exc.message, exc.hint)
        return self.show(request, "error.html", http_status(exc), said=said, hint=hint, number=http_status(exc))

    def _door(self, request: Request, code: int, **typed: Any) -> Response:
        provider = self.service.fleet.provider_name if self.service.fleet else ""
        context = {"error": "", "email": "", "instance": "", "next": "", "provider": provider, **typed}
        context["next"] = page_after_login(context["next"])
        return self.show(request, "login.html", code, several=not self.service.single, **context)

    def _inside(
        self, request: Request, session: Session, template: str, code: int, events: str, **context: Any
    ) -> Response:
        more = len(granted(self.service, session)) < len(self.service.instances)
        response = self.show(
            request,
            template,
            code,
            events=events,
            csrf=form_token(self.service, session),
            link=page.link_to,
            more_instances=more,
            **context,
        )
        renew(self.service, session, request, response)
        return response

    def show(self, request: Request, template: str, code: int, **context: Any) -> Response:
        language = language_of(request)
        headers = {"Cache-Control": "no-store", "Content-Language": language, "Vary": "Accept-Language, Cookie"}
        return HTMLResponse(page.render(template, language, **context), code, headers)


def language_of(request: Request) -> str:
    return choose_language(request.headers.get("accept-language", ""))


def _instance_page(request: Request) -> str:
    return page.link_to(quote(request.path_params["instance"], safe=""))


def _plain(text: str) -> str:
    """PostgreSQL's texts contain no NUL, so no account's name does."""
    return text.replace("\0", "").strip()
